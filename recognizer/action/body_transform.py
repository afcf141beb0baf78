"""The transform that makes the network's input in body coordinates.

    train_pipeline = [
        # augmentations (recognizer.action.augmentation) on keypoints in pixels
        dict(type='BodyInput', clip_len=32, num_person=3, feats=['v', 's', 'a', 'i', 'p']),
        dict(type='PackActionInputs'),
    ]

It stands for everything from PreNormalize2D to FormatGCNInput; see ``bodyframe`` for the streams.
"""

from collections.abc import Sequence

import numpy as np

from recognizer.action.bodyframe import body_input
from recognizer.action.features import BONES, FeatureSettings
from recognizer.action.mmaction import TRANSFORMS, BaseTransform
from recognizer.action.transforms import Results


@TRANSFORMS.register_module()
class BodyInput(BaseTransform):
    """Make the network's input of the keypoints in pixels, in body sizes and seconds.

    Required keys: keypoint (M, T, 17, 2), keypoint_score (M, T, 17). Changed: keypoint, now
    (1, num_person, clip_len, 17, C) float32. Removed: keypoint_score.

    Args:
        clip_len: frames of the input, evenly spread over the sample.
        num_person: people at most; zeros where there are fewer.
        feats: names of ``bodyframe.BODY_FEATS``.
        span_s: seconds that a whole sample lasts; where TemporalCrop left a part of it, its
            share of them.
        bones: "mmaction" (hips to nose) or "skeleton" (hips to shoulders).

    """

    def __init__(
        self,
        clip_len: int,
        num_person: int = 2,
        feats: Sequence[str] = ("b",),
        span_s: float = 2.0,
        bones: str = "mmaction",
    ) -> None:
        self.settings = FeatureSettings(
            clip_len=clip_len,
            num_person=num_person,
            normalize="body",
            feats=tuple(feats),
            sampling="even",
            bones=bones,
            span_s=span_s,
        )

    def transform(self, results: Results) -> Results:
        """Return the results with the network's input as keypoint."""
        settings = self.settings
        people = min(len(results["keypoint"]), settings.num_person)
        span_s = settings.span_s * results.get("part_of_clip", 1.0)
        x = body_input(
            results["keypoint"][:people],
            results.pop("keypoint_score")[:people],
            (settings.clip_len, settings.feats, span_s),
            BONES[settings.bones],
        )
        slots = np.zeros((1, settings.num_person, *x.shape[1:]), np.float32)
        slots[0, :people] = x
        results["keypoint"] = slots
        results["num_clips"] = 1
        results["clip_len"] = settings.clip_len
        return results

    def __repr__(self) -> str:
        """Return the transform as a config names it."""
        settings = self.settings
        return (
            f"BodyInput(clip_len={settings.clip_len}, num_person={settings.num_person}, "
            f"feats={list(settings.feats)}, span_s={settings.span_s}, bones={settings.bones!r})"
        )
