"""LeanPoseDataset: mmaction2's PoseDataset without its copies, and safe to read."""

from pathlib import Path
from typing import Any

import numpy as np

from recognizer.action.mmaction import DATASETS, PoseDataset, force_full_init
from recognizer.dataset.mmaction import read_split, to_mmaction


@DATASETS.register_module()
class LeanPoseDataset(PoseDataset):
    """PoseDataset that hands out its arrays, read-only, in place of copies of them.

    The pickle is read by ``read_split``: a list of samples, each checked, and nothing in it is
    executed, whereas PoseDataset executes what a pickle says. Whatever changes keypoints in place
    (PreNormalize2D does) must come after ``SampleSkeleton``, which copies what it keeps.

    Takes PoseDataset's arguments but ``split``, ``multi_class`` and a video prefix, which belong
    to other layouts.
    """

    def __init__(self, ann_file: str, pipeline: list[Any], **kwargs: Any) -> None:
        for name in ("split", "multi_class"):
            if kwargs.get(name):
                raise ValueError(f"LeanPoseDataset: {name} is not supported; use PoseDataset")
        _require_copy_first(pipeline)
        super().__init__(ann_file, pipeline, **{"serialize_data": False, **kwargs})

    def load_data_list(self) -> list[dict[str, object]]:
        """Return the samples of the pickle, their arrays read-only.

        Raises:
            FileNotFoundError: no such file.
            ArtifactError: damaged, hostile, or an invalid sample.

        """
        if "video" in self.data_prefix:
            raise ValueError("LeanPoseDataset: a video prefix is not supported; use PoseDataset")
        items = [to_mmaction(sample) for sample in read_split(Path(self.ann_file))]
        for item in items:
            for value in item.values():
                if isinstance(value, np.ndarray):
                    value.setflags(write=False)
        return items

    @force_full_init
    def get_data_info(self, idx: int) -> dict[str, object]:
        """Return one sample as PoseDataset does; its arrays are the data set's own."""
        if self.serialize_data:
            return dict(super().get_data_info(idx))
        return {
            **self.data_list[idx],
            "sample_idx": idx if idx >= 0 else len(self) + idx,
            "modality": self.modality,
            "start_index": self.start_index,
        }


def _require_copy_first(pipeline: list[Any]) -> None:
    names = [
        str(step.get("type")) if isinstance(step, dict) else type(step).__name__
        for step in pipeline
    ]
    if "PreNormalize2D" in names and "SampleSkeleton" not in names[: names.index("PreNormalize2D")]:
        raise ValueError(
            "LeanPoseDataset: PreNormalize2D changes keypoints in place; put SampleSkeleton "
            "before it, or use PoseDataset with mmaction2's plain pipeline"
        )
