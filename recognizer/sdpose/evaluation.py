"""AP and AR of a pose network on COCO-format data, and on images where people overlap.

mmpose's own test runs once; what it found, after its OKS-NMS, is then scored again on subsets of
the images. Foreground distillation is meant to help where people stand before each other, so
images with overlapping people are scored by themselves.
"""

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from xtcocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from recognizer.geometry import box_iou
from recognizer.openmmlab import scope
from recognizer.runner.checkpoints import load_checkpoint, load_weights
from recognizer.runner.engine import Batch, Config, ConfigDict, Hook, Runner
from recognizer.runner.run import OnProgress, SafeRunner, fit_loaders, global_state
from recognizer.runner.train_config import TrainConfigError, config_errors, datasets
from recognizer.sdpose import registered  # noqa: F401 - mmpose finds our types by name
from recognizer.sdpose.json_file import JsonObject
from recognizer.sdpose.training import annotations_of, is_one_stage, validate_dataset
from recognizer.storage.artifacts import atomic_path, sha256_file

OVERLAP_IOU = 0.1
"""Two people overlap where the IoU of their boxes is above this."""
DETECTIONS = "detections.json"

# Metric -> COCO's name and its place in COCOeval.stats. People are medium by an annotated area from
# 32 x 32 to 96 x 96 square pixels, and large above.
_METRICS = {
    "ap": ("AP", 0),
    "ap50": ("AP50", 1),
    "ap75": ("AP75", 2),
    "ap_medium": ("AP(M)", 3),
    "ap_large": ("AP(L)", 4),
    "ar": ("AR", 5),
}
# Warnings on calls of RTMO's head and of its last pictures' masks.
_OF_MMPOSE = (
    r"`torch\.cuda\.amp\.autocast",
    r"torch\.meshgrid: in an upcoming release",
    r"Default grid_sample and affine_grid behavior",
    r"The shape of value will convert from",
)
_OWN_LOSSES = "head.loss_"  # weights that a loss learns; inference has no use for them
_TRAINING = (
    "train_dataloader",
    "train_cfg",
    "optim_wrapper",
    "param_scheduler",
    "custom_hooks",
    "val_dataloader",
    "val_cfg",
    "val_evaluator",
    "load_from",
)
# mmengine's own hooks that a test does without; its LoggerHook would leave files behind.
_HOOKS = ("timer", "logger", "param_scheduler", "checkpoint", "sampler_seed")


@dataclass(frozen=True, slots=True)
class ApMetrics:
    """COCO's figures on some images; None where no person of that kind is in them.

    Attributes:
        images: how many, those without people included.
        persons: those with labelled keypoints, crowds aside.
        ap, ap50, ap75: mean over OKS .5 to .95; at OKS .5; at OKS .75.
        ap_medium, ap_large: of people of that size.
        ar: average recall over OKS .5 to .95.

    """

    images: int
    persons: int
    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None
    ar: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain values under COCO's names: AP, AP50, AP75, AP(M), AP(L), AR."""
        names = {key: name for key, (name, _) in _METRICS.items()}
        return {names.get(key, key): value for key, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class PoseScores:
    """What one checkpoint reaches on a test set.

    Attributes:
        every: on all images.
        overlapping: on those in which boxes of two people overlap.
        others: on the rest.
        boxes: "annotated", or the detector's file whose boxes the people were cut out by, or
            "the network's own" where it sees whole pictures.
        flip_test: whether heatmaps of the mirrored image were averaged in.
        metadata: checkpoint, its sha256 and epoch, annotations and their sha256.

    """

    every: ApMetrics
    overlapping: ApMetrics
    others: ApMetrics
    boxes: str
    flip_test: bool
    metadata: JsonObject

    def to_json(self) -> dict[str, object]:
        """Return plain values."""
        return {
            "all": self.every.to_json(),
            "overlapping": self.overlapping.to_json(),
            "others": self.others.to_json(),
            "overlap_iou": OVERLAP_IOU,
            "boxes": self.boxes,
            "flip_test": self.flip_test,
            **self.metadata,
        }


def evaluate(
    cfg: Config,
    checkpoint: Path,
    output: Path,
    *,
    on_progress: OnProgress | None = None,
    on_image: OnProgress | None = None,
) -> PoseScores:
    """Test a checkpoint with the config's test loader and evaluator; on a GPU if there is one.

    What was found, after OKS-NMS, goes to ``detections.json`` in COCO's form for results.

    Args:
        cfg: of ``load_pose_config``.
        checkpoint: of a training, or a bare state dict such as that of ``convert.sdpose``.
        output: the folder for the detections.
        on_progress: called after each batch.
        on_image: called after each picture that is checked before.

    Raises:
        FileNotFoundError: the checkpoint, annotations, pictures or detected boxes are not there.
        CheckpointError: the checkpoint is damaged or of another network.
        TrainConfigError: no test can be built of the config.
        ValueError: annotations that cannot be measured with, see ``coco.validate_coco``.

    """
    cfg = cfg.copy()
    loaded = load_checkpoint(checkpoint)
    dataset, metric = _tested(cfg)
    ann_file, boxes = annotations_of(dataset), dataset.get("bbox_file")
    validate_dataset(dataset, on_image)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".testing-") as scratch:
        metric["outfile_prefix"] = str(Path(scratch) / "found")
        with quietly():
            splits = _run(cfg, (loaded, checkpoint), Path(scratch), on_progress)
        with atomic_path(output / DETECTIONS, output) as final:
            final.write_bytes((Path(scratch) / "found.keypoints.json").read_bytes())
    epoch = loaded["meta"].get("epoch")
    metadata = {
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": sha256_file(checkpoint),
        "epoch": epoch if type(epoch) is int else None,
        "annotations": str(ann_file),
        "annotations_sha256": sha256_file(ann_file),
    }
    flip = bool((cfg.model.get("test_cfg") or {}).get("flip_test", False))
    usual = "the network's own" if is_one_stage(dataset) else "annotated"
    return PoseScores(*splits, str(boxes or usual), flip, metadata)


def _tested(cfg: Config) -> tuple[ConfigDict, ConfigDict]:
    """Return the test data set's config and that of its CocoMetric."""
    dataset = datasets(cfg).get("test")
    if dataset is None:
        raise TrainConfigError("test_dataloader: expected a data set to test on, got none")
    evaluators = cfg.get("test_evaluator")
    listed = evaluators if isinstance(evaluators, list | tuple) else [evaluators]
    metrics = [one for one in listed if isinstance(one, Mapping) and one["type"] == "CocoMetric"]
    kinds = [metric.get("iou_type", "keypoints") for metric in metrics]
    if kinds != ["keypoints"] or metrics[0].get("format_only"):
        raise TrainConfigError(
            f"test_evaluator: expected one CocoMetric of keypoints that measures, got {listed}"
        )
    return dataset, cast(ConfigDict, metrics[0])


def _run(
    cfg: Config,
    weights: tuple[JsonObject, Path],
    scratch: Path,
    on_progress: OnProgress | None,
) -> tuple[ApMetrics, ApMetrics, ApMetrics]:
    """Run mmpose's test and score what it found."""
    for name in _TRAINING:
        cfg[name] = None
    cfg.update(work_dir=str(scratch), launcher="none", resume=False)
    cfg.experiment_name = f"test_{os.getpid()}_{scratch.name}"
    cfg.default_hooks = dict.fromkeys(_HOOKS)
    cfg.visualizer = {"type": "mmengine.Visualizer", "vis_backends": []}
    cfg.test_cfg = {} if cfg.get("test_cfg") is None else cfg.test_cfg
    if cfg.model.get("head", {}).get("type") != "RTMOHead":  # it cannot be built without
        for loss in [key for key in cfg.model.get("head") or {} if key.startswith("loss_")]:
            cfg.model.head[loss] = None
    fit_loaders(cfg)
    cfg.test_dataloader.persistent_workers = False  # they end with the loop
    begun: list[int] = []
    with global_state(), scope("mmpose"):
        with config_errors(cfg, lambda: bool(begun), None):
            runner = SafeRunner.from_cfg(cfg)
        loaded, path = weights
        named = {k.removeprefix("module."): v for k, v in loaded["state_dict"].items()}
        own = set(runner.model.state_dict())  # RTMO's losses keep sigmas and are built for a test
        kept = {k: v for k, v in named.items() if k in own or not k.startswith(_OWN_LOSSES)}
        load_weights(runner.model, kept, path, strict=True)
        runner.register_hook(TestProgressHook(begun, on_progress))
        with config_errors(cfg, lambda: bool(begun), None):
            runner.test()
        (metric,) = [m for m in runner.test_evaluator.metrics if type(m).__name__ == "CocoMetric"]
        return score_subsets(metric, scratch / "found.keypoints.json")


class TestProgressHook(Hook):
    """Report every batch of a test."""

    def __init__(self, begun: list[int], on_progress: OnProgress | None) -> None:
        self.begun, self.on_progress = begun, on_progress

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Batch = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Count the batch."""
        self.begun[:] = [batch_idx + 1]
        if self.on_progress is not None:
            self.on_progress(batch_idx + 1, len(runner.test_dataloader))


def count_parameters(cfg: Config) -> int:
    """Build the config's network and return its trainable parameters, those of losses aside.

    Raises:
        TrainConfigError: it cannot be built.

    """
    from mmpose.registry import MODELS

    with global_state(), scope("mmpose"), config_errors(cfg, lambda: False, None):
        model = MODELS.build(cfg.model)
    return sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if weight.requires_grad and not name.startswith(_OWN_LOSSES)
    )


# --- subsets of the images ---------------------------------------------------------


def overlapping_images(annotations: Sequence[JsonObject]) -> set[int]:
    """Return the ids of images in which the boxes of two people overlap, crowds aside.

    Args:
        annotations: COCO's; ``bbox`` is x, y, width, height.

    """
    boxes: dict[int, list[list[float]]] = {}
    for annotation in annotations:
        if not annotation.get("iscrowd"):
            boxes.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    found = set()
    for image, rows in boxes.items():
        corners = np.array(rows, np.float64)  # (N, 4)
        corners[:, 2:] += corners[:, :2]
        if (np.triu(box_iou(corners, corners), 1) > OVERLAP_IOU).any():
            found.add(image)
    return found


def score_subsets(metric: Any, found: Path) -> tuple[ApMetrics, ApMetrics, ApMetrics]:
    """Score all images, those with overlapping people, and the others.

    Args:
        metric: a CocoMetric that knows its annotations.
        found: a file of detections in COCO's form.

    """
    truth = metric.coco
    detections = truth.loadRes(str(found))
    images = set(truth.getImgIds())
    overlapping = overlapping_images(list(truth.anns.values())) & images
    every, some, rest = (
        _metrics(metric, detections, part) for part in (images, overlapping, images - overlapping)
    )
    return every, some, rest


def _metrics(metric: Any, detections: Any, images: set[int]) -> ApMetrics:
    persons = sum(
        not row.get("iscrowd") and row["image_id"] in images and any(row["keypoints"][2::3])
        for row in metric.coco.anns.values()
    )
    if not images or not persons:
        return ApMetrics(len(images), persons)
    scored = COCOeval(
        metric.coco, detections, metric.iou_type, metric.dataset_meta["sigmas"], metric.use_area
    )
    scored.params.useSegm = None
    scored.params.imgIds = sorted(images)
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    values = {key: float(scored.stats[place]) for key, (_, place) in _METRICS.items()}
    # COCO gives -1 where there is no person to find.
    known = {key: value for key, value in values.items() if value >= 0}
    return ApMetrics(len(images), persons, **known)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Swallow what COCO's tools print, mmpose's note on its keypoint file, and its old calls."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The metainfo config file", UserWarning)
        for text in _OF_MMPOSE:
            warnings.filterwarnings("ignore", text)
        yield
