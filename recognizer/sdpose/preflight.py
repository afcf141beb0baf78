"""The data that an mmpose config names, checked before anything runs on it."""

from collections.abc import Iterator
from pathlib import Path

from recognizer.runner.engine import Config, ConfigDict
from recognizer.runner.preflight import check_batches, warn
from recognizer.runner.train_config import TrainConfigError, datasets
from recognizer.sdpose.coco import CocoSummary, validate_coco
from recognizer.sdpose.pictures import ImageChecks, OnImage, is_turned
from recognizer.storage.artifacts import sha256_file

# Checked data sets by their paths and file states; a process sees few.
_passed: dict[tuple[object, ...], CocoSummary] = {}


def annotations_of(dataset: ConfigDict) -> Path:
    """Return the annotation file of a data set of a config."""
    return Path(dataset.get("data_root") or "") / str(dataset.ann_file)


def validate_dataset(dataset: ConfigDict, on_image: OnImage | None = None) -> CocoSummary:
    """Check annotations, pictures and detected boxes of a data set of a config.

    Warnings are logged. Data that passed once is not looked at again by the same process, as long
    as the sizes and times of the JSON files and of the folder of pictures stay. A picture that is
    overwritten in place, or changes in a folder below, is not seen.

    Args:
        dataset: of ``datasets(cfg)``.
        on_image: called after each picture.

    Raises:
        FileNotFoundError, ValueError: as ``coco.validate_coco``.

    """
    root = Path(dataset.get("data_root") or "")
    folder = root / dataset.get("data_prefix", {}).get("img", "")
    boxes = Path(dataset.bbox_file) if dataset.get("bbox_file") else None
    ann_file = annotations_of(dataset)
    state = tuple(_state(path) for path in (ann_file, folder, boxes) if path is not None)
    turned = is_turned(dataset.get("pipeline") or [])
    key = (ann_file, folder, boxes, turned, state)
    if key not in _passed:
        summary = validate_coco(ann_file, folder, ImageChecks(turned, boxes, on_image))
        warn(summary.warnings)
        _passed[key] = summary
    return _passed[key]


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def validate_data(cfg: Config, on_image: OnImage | None = None) -> dict[str, int | str]:
    """Check the data of the train and val loaders; return what checkpoints say of it.

    Raises:
        FileNotFoundError, ValueError: as ``coco.validate_coco``.
        TrainConfigError: a batch that is larger than what there is, where the rest is dropped.

    """
    own: dict[str, int | str] = {}
    faults: list[ValueError | OSError] = []
    for split, dataset in datasets(cfg).items():
        if split == "test":
            continue  # not read in training
        try:
            summary = validate_dataset(dataset, on_image)
        except (ValueError, FileNotFoundError) as error:
            faults.append(error)
            continue
        check_batches(cfg, split, summary.with_keypoints, "people")
        own[f"{split}_persons"] = summary.with_keypoints
        own[f"{split}_sha256"] = sha256_file(annotations_of(dataset))
    if faults:
        raise type(faults[0])("\n".join(map(str, faults))) from faults[0]
    if "train_sha256" not in own:
        raise TrainConfigError("train_dataloader: expected a data set with an ann_file")
    warn(_shared(datasets(cfg)))
    return own


def _shared(found: dict[str, ConfigDict]) -> Iterator[str]:
    """Yield what is trained on and validated with at once."""
    if not {"train", "val"} <= found.keys():
        return
    train, val = (annotations_of(found[split]) for split in ("train", "val"))
    if sha256_file(train) == sha256_file(val):
        yield (
            f"{train} and {val} are the same: the best epoch is chosen on the people that were "
            "trained on"
        )
