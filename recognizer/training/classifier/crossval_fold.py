"""The trainings of a cross-validation, each in its own worker process.

A worker trains on a fold's training part and predicts its test part. The pickles it trains on do
not hold the test part, so that no config can reach it.
"""

import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recognizer.action.views import average
from recognizer.config.schema import AnnotationConfig
from recognizer.dataset.mmaction import read_split, write_split
from recognizer.dataset.split import SPLITS, SplitSample, class_weights, split_by_source
from recognizer.runs.batch import WorkerPaths, run_batch, worker_count, worker_pool
from recognizer.runs.manifest import Outcome, Progress
from recognizer.runs.worker_pool import Handler, Job, OnFrames, StopRunError
from recognizer.storage.artifacts import ArtifactError, read_npz, short_digest, write_npz
from recognizer.types import Sample

if TYPE_CHECKING:
    from mmengine.config import Config as TrainConfig

SCHEMA = "recognizer.crossval_fold"
RESULT = "predictions.npz"
_NEVER_S = float("inf")  # a training sends nothing for minutes, which is no stall
_ROUNDING = 1e-6  # of a probability of 1
_INNER_RATIOS = (0.8, 0.2, 0.0)  # of the training part, where a config asks for validation


@dataclass(frozen=True, slots=True)
class FoldJob:
    """One fold of one seed with one config.

    Attributes:
        name: such as ``bone/seed0_fold1``.
        config_file: the mmaction2 config.
        options: changes to it.
        seed: of weights, order and augmentation.
        folder: for its files and its result.
        key: digest of all that decides the result.
        train: names of the samples to learn from.
        test: names of the samples to predict.
        source_of: the source of each of ``train``, for the inner validation part.
        views: test-time views in which the test part is predicted as well.
        negatives: names of further samples to learn from, also in inner trainings; they are
            never predicted or validated on.

    """

    name: str
    config_file: Path
    options: tuple[str, ...]
    seed: int
    folder: Path
    key: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    source_of: Mapping[str, str]
    views: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()


def job_key(decides: Mapping[str, object], train: Sequence[str], test: Sequence[str]) -> str:
    """Return the digest of all that decides a fold's predictions."""
    return short_digest({**decides, "train": sorted(train), "test": sorted(test)})


def read_result(job: FoldJob) -> NDArray[np.float64] | None:
    """Return the finished probabilities (1 + views, N, K), None if not done.

    They are of ``job.test`` in that order, unchanged and in each of ``job.views``. A file with
    other content counts as missing: the fold is trained again.
    """
    try:
        arrays, meta = read_npz(job.folder / RESULT, SCHEMA)
    except (OSError, ArtifactError):
        return None
    names, views = (_strings(meta.get(key, ())) for key in ("names", "views"))
    values = arrays.get("probabilities")
    if meta.get("key") != job.key or names != job.test or views is None or values is None:
        return None
    if values.ndim == 2:  # earlier versions wrote (N, K)
        values = values[None]
    known = ["", *views]  # a job may need fewer than were predicted
    if not _are_probabilities(values, (len(known), len(job.test))):
        return None
    if not set(job.views) <= set(known):
        return None
    return values[[known.index(view) for view in ("", *job.views)]]


def _strings(value: object) -> tuple[str, ...] | None:
    """Return a list of strings as a tuple, None for anything else."""
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return tuple(value)
    return None


def _are_probabilities(values: NDArray[np.floating[Any]], shape: tuple[int, int]) -> bool:
    """Tell whether (V, N, K) are finite numbers from 0 to 1 of two or more classes."""
    return (
        values.ndim == 3
        and values.shape[:2] == shape
        and values.shape[2] >= 2
        and np.issubdtype(values.dtype, np.floating)
        and bool(((values >= 0) & (values <= 1 + _ROUNDING)).all())  # False for NaN
    )


def finished(job: FoldJob) -> NDArray[np.float64]:
    """Return the probabilities (N, K), averaged over the views, of a finished job.

    Raises:
        RuntimeError: the result is missing.

    """
    return average(list(finished_views(job)))


def finished_views(job: FoldJob) -> NDArray[np.float64]:
    """Return the probabilities (1 + views, N, K) of a job that ``run_folds`` has finished.

    Raises:
        RuntimeError: the result is missing.

    """
    probabilities = read_result(job)
    if probabilities is None:
        raise RuntimeError(f"{job.folder}: the finished predictions are gone; run again")
    return probabilities


def run_folds(
    section: AnnotationConfig, dataset_dir: Path, jobs: Sequence[FoldJob], advance: Progress
) -> None:
    """Run the unfinished jobs in workers; raise RuntimeError if one failed."""
    settled = [Outcome(job.name, "done") for job in jobs if read_result(job) is not None]
    done = {outcome.video for outcome in settled}
    left = [Job(job.name, job) for job in jobs if job.name not in done]
    folder = Path(os.path.commonpath([job.folder.parent for job in jobs]))
    reads = (dataset_dir, *{job.config_file for job in jobs})
    arguments = [(dataset_dir,)] * worker_count(section)
    pool = replace(
        worker_pool(section, start, arguments, WorkerPaths(folder, reads)),
        stall_timeout_s=_NEVER_S,
    )
    outcomes = run_batch(settled, left, pool, advance)
    failed = [o for o in outcomes if o.state != "done"]
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(jobs)} trainings failed, the first: {failed[0].video}: "
            f"{failed[0].reason}\nThe same command goes on with those that are missing"
        )


def start(dataset_dir: Path) -> Handler:
    """Read the data set once and return the handler that trains a fold."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # before torch loads
    samples = {
        sample.name: sample
        for split in SPLITS
        for sample in read_split(dataset_dir / f"{split}.pkl")
    }

    def handle(job: FoldJob, on_frames: OnFrames) -> Outcome:
        from recognizer.runner.train_config import TrainConfigError

        try:
            run_fold(job, samples)
        except TrainConfigError as error:  # the others would fail on it as well
            raise StopRunError(str(error)) from error
        except RuntimeError as error:  # NaN losses, full memory
            return Outcome(job.name, "refused", f"{type(error).__name__}: {error}")
        return Outcome(job.name, "done")

    return handle


def run_fold(job: FoldJob, samples: Mapping[str, Sample]) -> None:
    """Train on a fold, predict its test part and write the result.

    A killed training is resumed from its last checkpoint. With a ``val_dataloader`` in the config
    a fifth of the training part, whole sources, chooses the best epoch; without, the last epoch is
    used. The test part chooses nothing.
    """
    from recognizer.action.training import load_train_config, predict_views, train

    cfg = load_train_config(job.config_file, list(job.options))
    if job.folder.is_dir() and _interrupted_key(job.folder) != job.key:
        shutil.rmtree(job.folder)
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "key").write_text(job.key, encoding="utf-8")
    learnt = [samples[name] for name in (*job.train, *job.negatives)]
    pickles = _write_parts(job, learnt, inner=cfg.get("val_dataloader") is not None)
    _fill_in(cfg, pickles, job, learnt)
    checkpoint = train(cfg, resume=True)
    test = [samples[name] for name in job.test]
    probabilities = predict_views(checkpoint, test, views=job.views)
    meta = {
        "schema": SCHEMA,
        "schema_version": 1,
        "key": job.key,
        "names": list(job.test),
        "views": list(job.views),
    }
    write_npz(job.folder / RESULT, job.folder, {"probabilities": probabilities}, meta)
    # A hundred trainings would fill a disk.
    for path in (*pickles.values(), *job.folder.glob("*.pth"), job.folder / "last_checkpoint"):
        path.unlink(missing_ok=True)


def _interrupted_key(folder: Path) -> str:
    path = folder / "key"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _write_parts(job: FoldJob, learnt: list[Sample], *, inner: bool) -> dict[str, Path]:
    """Write the pickles of the training part and, if asked for, of the inner validation part."""
    part_of = {sample.name: "train" for sample in learnt}
    if inner:
        of_dataset = learnt[: len(job.train)]  # negatives come last, and are never validated on
        members = [SplitSample(s.name, s.name, job.source_of[s.name], s.label) for s in of_dataset]
        classes = max(member.label for member in members) + 1
        splits = split_by_source(members, classes, _INNER_RATIOS, job.seed)
        part_of |= {member.name: splits[member.source] for member in members}
    pickles = {}
    for part in ("train", "val") if inner else ("train",):
        pickles[part] = job.folder / f"{part}.pkl"
        chosen = (sample for sample in learnt if part_of[sample.name] == part)
        write_split(pickles[part], job.folder, chosen)
    return pickles


def _fill_in(
    cfg: "TrainConfig", pickles: Mapping[str, Path], job: FoldJob, learnt: Sequence[Sample]
) -> None:
    """Fill in the fold's pickles, seed and class weights; loaders must not start workers."""
    from recognizer.runner.train_config import datasets

    cfg.work_dir = str(job.folder)
    cfg.randomness = {**(cfg.get("randomness") or {}), "seed": job.seed}
    for part, dataset in datasets(cfg).items():
        cfg[f"{part}_dataloader"].num_workers = 0
        # predict uses the pipeline of the test loader, whose file does not exist and is not read.
        dataset.ann_file = str(pickles.get(part, job.folder / f"{part}.pkl"))
    # The workers are spawned; mmengine would switch them to fork, with a warning.
    cfg.env_cfg = {**(cfg.get("env_cfg") or {}), "mp_cfg": {"mp_start_method": "spawn"}}
    if cfg.get("class_weight_from") == "metadata":
        counts = Counter(sample.label for sample in learnt)
        classes = range(int(cfg.model.cls_head.num_classes))
        weights = class_weights({label: counts[label] for label in classes})
        cfg.model.cls_head.loss_cls.class_weight = [weights[label] for label in classes]
