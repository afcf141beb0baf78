"""Our transforms for configs: mmaction2's skeleton pipeline, frames first.

    train_pipeline = [
        dict(type='SampleSkeleton', clip_len=100, num_person=4),
        # augmentations (recognizer.action.augmentation) go here: keypoints are still pixels
        dict(type='SkeletonInput', feats=['b']),
        dict(type='PackActionInputs'),
    ]

gives the same samples, bit for bit and from the same state of NumPy's generator, as

    PreNormalize2D, GenSkeFeat(dataset='coco', feats=['b']), UniformSampleFrames(clip_len=100),
    PoseDecode, FormatGCNInput(num_person=4), PackActionInputs

and differs in the order of work only: frames and people are chosen before anything is computed
of them. mmaction2's own steps stay usable, after ``SampleSkeleton`` too.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recognizer.action.features import BONES, FeatureSettings, normalize_image, skeleton_features
from recognizer.action.frames import evaluation_frames, even_frames, needed_frames, uniform_frames
from recognizer.action.mmaction import TRANSFORMS, BaseTransform
from recognizer.types import IntArray

Results = dict[str, Any]
"""A sample on its way through mmaction2's pipeline: its keys and values."""

# The generator behind np.random.*, which mmengine seeds for each worker and mmaction2 draws from.
GLOBAL_RANDOM: np.random.RandomState = np.random.mtrand._rand


@TRANSFORMS.register_module()
class SampleSkeleton(BaseTransform):
    """Keep the first people and the frames of a clip that the network will see.

    Chooses as UniformSampleFrames does, and keeps the chosen frames and, for motion, the frames
    after them, each once and in order. What comes after may be PreNormalize2D, GenSkeFeat,
    PoseDecode and FormatGCNInput as well as ``SkeletonInput``: the result is the same.

    Required keys: keypoint (M, T, 17, 2), keypoint_score (M, T, 17). Changed: both, to at most
    ``num_person`` people and the kept frames, as copies; total_frames. Added: frame_inds, the
    rows of the chosen frames, clip_len, num_clips, num_person.

    Args:
        clip_len: frames of one clip.
        num_person: people at most.
        num_clips: clips of one sample.
        sampling: "uniform" as UniformSampleFrames; "even" as ``frames.even_frames``.
        test_mode: the same frames each time, and the global generator left alone.

    """

    def __init__(
        self,
        clip_len: int,
        num_person: int = 2,
        num_clips: int = 1,
        sampling: str = "uniform",
        test_mode: bool = False,
    ) -> None:
        FeatureSettings(clip_len=clip_len, num_person=num_person, sampling=sampling)  # checks them
        if type(num_clips) is not int or num_clips < 1:
            raise ValueError(f"SampleSkeleton: expected num_clips >= 1, got {num_clips!r}")
        self.clip_len = clip_len
        self.num_person = num_person
        self.num_clips = num_clips
        self.sampling = sampling
        self.test_mode = test_mode

    def transform(self, results: Results) -> Results:
        """Return the results with fewer people and frames.

        Raises:
            ValueError: no frames, or frames that do not start at 0.

        """
        if results.get("start_index"):
            raise ValueError(
                f"SampleSkeleton: expected start_index 0, got {results['start_index']!r}"
            )
        keypoints, scores = results["keypoint"], results["keypoint_score"]
        total = keypoints.shape[1]
        rows, at = needed_frames(self._choose(total), total, motion=True)
        results["keypoint"] = keypoints[: self.num_person].take(rows, axis=1)
        results["keypoint_score"] = scores[: self.num_person].take(rows, axis=1)
        results["total_frames"] = len(rows)
        results["frame_inds"] = at
        results["frame_interval"] = None
        results["clip_len"] = self.clip_len
        results["num_clips"] = self.num_clips
        results["num_person"] = self.num_person
        return results

    def _choose(self, total: int) -> IntArray:
        if self.test_mode:
            return evaluation_frames(total, self.clip_len, self.sampling, self.num_clips)
        draw = even_frames if self.sampling == "even" else uniform_frames
        clips = [draw(total, self.clip_len, GLOBAL_RANDOM) for _ in range(self.num_clips)]
        return np.concatenate(clips)

    def __repr__(self) -> str:
        """Return the transform as a config names it."""
        return (
            f"SampleSkeleton(clip_len={self.clip_len}, num_person={self.num_person}, "
            f"num_clips={self.num_clips}, sampling={self.sampling!r}, test_mode={self.test_mode})"
        )


@TRANSFORMS.register_module()
class SkeletonInput(BaseTransform):
    """Make the network's input of the keypoints in pixels that ``SampleSkeleton`` kept.

    Does what PreNormalize2D, GenSkeFeat, PoseDecode and FormatGCNInput do. Required keys:
    keypoint, keypoint_score, img_shape and what ``SampleSkeleton`` added. Changed: keypoint, now
    (num_clips, num_person, clip_len, 17, 3 * len(feats)) float32. Removed: keypoint_score.

    Args:
        feats: streams joined along the channels: "j", "b", "jm", "bm".
        normalize: "image" as PreNormalize2D.
        bones: "mmaction" (hips to nose, as GenSkeFeat) or "skeleton" (hips to shoulders).

    """

    def __init__(
        self, feats: Sequence[str] = ("b",), normalize: str = "image", bones: str = "mmaction"
    ) -> None:
        feats = tuple(feats)
        FeatureSettings(feats=feats, normalize=normalize, bones=bones)  # checks them
        self.feats = feats
        self.normalize = normalize
        self.bones = bones

    def transform(self, results: Results) -> Results:
        """Return the results with the network's input as keypoint.

        Raises:
            KeyError: ``SampleSkeleton`` did not come before.

        """
        if "num_person" not in results:
            raise KeyError("SkeletonInput: put SampleSkeleton before it in the pipeline")
        height, width = results["img_shape"]
        points = normalize_image(results["keypoint"], (width, height))
        x = skeleton_features(
            points,
            results.pop("keypoint_score"),
            results["frame_inds"],
            self.feats,
            BONES[self.bones],
            slots=results["num_person"],
        )
        clips = results["num_clips"]
        x = x.reshape(len(x), clips, results["clip_len"], *x.shape[2:])
        results["keypoint"] = np.ascontiguousarray(x.swapaxes(0, 1))
        return results

    def __repr__(self) -> str:
        """Return the transform as a config names it."""
        return (
            f"SkeletonInput(feats={list(self.feats)}, normalize={self.normalize!r}, "
            f"bones={self.bones!r})"
        )
