"""Find a checkpoint by its name; list those that are there where it is missing."""

import difflib
import logging
import re
from pathlib import Path

logger = logging.getLogger(__name__)

_MOST_NAMES = 12
_OLD_BEST = re.compile(r"best_(AP|top1_acc)_(epoch_\d+\.pth)")
_METRIC = {"AP": "coco_AP", "top1_acc": "acc_top1"}
_NUMBER = re.compile(r"\d+")


def todays_checkpoint(path: Path) -> Path:
    """Return the path, or where only that is there the name that mmengine gives such a file.

    mmcv 1.x says ``best_AP_epoch_280.pth``, mmengine ``best_coco_AP_epoch_280.pth``.
    """
    old = _OLD_BEST.fullmatch(path.name)
    if path.exists() or old is None:
        return path
    today = path.with_name(f"best_{_METRIC[old[1]]}_{old[2]}")
    if not today.is_file():
        return path
    logger.warning("%s is called %s today: taking that", path, today.name)
    return today


def best_checkpoint(folder: Path, *, or_last: bool = True) -> Path | None:
    """Return the newest best checkpoint of a folder; None without any.

    Args:
        folder: a work_dir.
        or_last: take the newest of ``epoch_*.pth`` where no epoch was validated.

    """
    for pattern in ("best_*.pth", "epoch_*.pth") if or_last else ("best_*.pth",):
        if files := list(folder.glob(pattern)):
            return max(files, key=lambda file: file.stat().st_mtime_ns)
    return None


def missing_checkpoint(path: Path) -> str:
    """Return the message for a checkpoint that was named and is not there."""
    folder = path.parent
    if path.is_dir():
        text, folder = f"expected a checkpoint, got the folder {path}", path
    else:
        text = f"expected a checkpoint at {path}, found none"
    if not folder.is_dir():
        return f"{text}; there is no folder {folder}"
    names = sorted((file.name for file in folder.glob("*.pth")), key=_by_number)
    if not names:
        return f"{text}; no *.pth is in {folder}"
    near = difflib.get_close_matches(path.name, names, 1, 0.75)
    hint = f"; did you mean {near[0]}?" if near else ""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{text}; {folder} holds {', '.join(names[-_MOST_NAMES:])}{more}{hint}"


def _by_number(name: str) -> tuple[str, int]:
    numbers = _NUMBER.findall(name)
    return _NUMBER.sub("", name), int(numbers[-1]) if numbers else -1
