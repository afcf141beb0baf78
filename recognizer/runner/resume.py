"""The checkpoint that a training resumes from; files of earlier trainings are renamed."""

import logging
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from recognizer.runner.checkpoint_search import missing_checkpoint, todays_checkpoint
from recognizer.runner.checkpoints import held_checkpoint, last_checkpoint
from recognizer.runner.engine import Config, Section
from recognizer.runner.logs import LATEST_JSON, LATEST_LOG
from recognizer.storage.artifacts import atomic_path, remove_stale_scratch

logger = logging.getLogger(__name__)

LATEST = "latest.pth"
_OF_ONE_TRAINING = ("last_checkpoint", LATEST, LATEST_LOG, LATEST_JSON)
_STEP = re.compile(r"_(epoch|iter)_(\d+)\.pth$")


def find_source(cfg: Config, work_dir: Path, resume: bool | Path) -> Path | None:
    """Return the checkpoint to go on from, None to start; put aside what a new start would mix.

    Args:
        cfg: ``resume = True`` in it is ``resume``, ``resume_from`` a checkpoint to go on from.
        work_dir: the folder of the training.
        resume: True: the last checkpoint of the work_dir, else ``resume_from``, else none. A path:
            that checkpoint, of this folder or of another one.

    Raises:
        FileNotFoundError: no such checkpoint; the message says which ones there are.
        FileExistsError: the work_dir holds a training that this one is not to go on with.
        CheckpointError: ``last_checkpoint`` is to be followed and cannot be.

    """
    resume = resume or bool(cfg.get("resume"))
    source = _named(cfg, resume)
    if resume is True:
        source = last_checkpoint(work_dir) or source
    if source is not None and not source.is_file():
        raise FileNotFoundError(f"resume: {missing_checkpoint(source)}")
    here = source is not None and source.resolve().parent == work_dir.resolve()
    held = None if here else held_checkpoint(work_dir)
    if held is not None:
        raise FileExistsError(
            f"{work_dir} holds a training ({held.name}); go on with it (--resume), choose "
            "another folder (--set train.work_dir=...), or delete this one"
        )
    if not here and _is_main():
        remove_stale_scratch(work_dir)
        put_aside([*work_dir.glob("best_*.pth"), *(work_dir / name for name in _OF_ONE_TRAINING)])
    if resume and source is None:
        logger.info("going on from nothing: no training in this folder yet")
    return source


def _named(cfg: Config, resume: bool | Path) -> Path | None:
    """Return the checkpoint that was named, on the command line or in the config."""
    named = resume if isinstance(resume, Path) else cfg.get("resume_from")
    return None if named is None else todays_checkpoint(Path(named).expanduser().absolute())


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


def put_aside(paths: Iterable[Path]) -> None:
    """Rename files that belong to another training than the one that begins."""
    for path in paths:
        if path.is_file() or path.is_symlink():
            aside = path.with_name(f"{path.name}.earlier{time.time_ns()}")
            path.rename(aside)
            logger.info("%s is of an earlier training: kept as %s", path.name, aside.name)


def log_progress_so_far(cfg: Config, source: Path, checkpoint: Section) -> None:
    """Log where the training goes on, and whether anything is left of it."""
    done, most = checkpoint["meta"]["epoch"], cfg.train_cfg.get("max_epochs")
    logger.info("going on from %s, after epoch %d", source, done)
    if most is not None and done >= most:
        logger.warning(
            "nothing is left to train: train_cfg.max_epochs is %d; set it higher to go on "
            "(--cfg-options train_cfg.max_epochs=%d)",
            most,
            done + most,
        )


def restore_best(work_dir: Path, source: Path, checkpoint: Section) -> None:
    """Make the best checkpoint of the work_dir the one that ``source`` records as best.

    On resuming from an earlier checkpoint, best ones of later epochs are renamed; the best one
    beside a checkpoint of another folder is linked here.
    """
    if not _is_main():
        return
    step = {kind: checkpoint["meta"].get(kind) for kind in ("epoch", "iter")}
    put_aside(
        path
        for path in work_dir.glob("best_*.pth")
        if (match := _STEP.search(path.name)) and int(match[2]) > (step[match[1]] or 0)
    )
    hub = checkpoint["message_hub"]
    info = hub.get("runtime_info", {}) if isinstance(hub, Mapping) else {}
    names = [Path(str(path)).name for key, path in info.items() if key.startswith("best_ckpt")]
    for name in names:
        if (source.parent / name).is_file() and not (work_dir / name).exists():
            link(source.parent / name, work_dir / name)
            logger.info("the best checkpoint so far is taken along: %s", name)


def link(path: Path, name: Path) -> None:
    """Give a file a second name in one step; copy it where the disk knows no hard links."""
    with atomic_path(name, name.parent) as scratch:
        try:
            os.link(path, scratch)
        except OSError:
            shutil.copyfile(path, scratch)
