"""Mode test.crossval: k-fold cross-validation, whole sources at a time, over several seeds.

All samples of stage 3 take part, whatever its own split was. Every (seed, fold, config) is
one training in a worker process; finished ones stay on disk and are not done again. With
as many folds as sources it is leave-one-source-out.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotation.batch import settle, worker_count
from annotation.progress import Watch
from annotation.stills import stills_of
from annotation.workers import Job, Workforce
from annotation.workspace import Outcome, exclusive
from recognizer.action.evaluation import fuse
from recognizer.artifacts import sha256_file
from recognizer.command import next_command
from recognizer.config import Config
from recognizer.config_file import ConfigError
from recognizer.dataset.check import check_splits
from recognizer.dataset.folds import source_folds
from recognizer.dataset.split import SPLITS
from training.crossval_report import Result, Setup, write_report
from training.fold_job import FoldJob, job_key, read_result, start
from training.places import ROOT, as_list, check_network, find_pickle, train_config
from training.truth import Facts, Predictions, Truth, check_agreement, read_truth

logger = logging.getLogger(__name__)

_NEVER_S = float("inf")  # a training says nothing for minutes; that is no stall


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """The test part of one fold of one seed: its samples, and its clips without anybody."""

    seed: int
    fold: int
    names: tuple[str, ...]
    nobody: tuple[str, ...]


def crossval(config: Config, watch: Watch) -> int:
    """Cross-validate the configs and return the exit code."""
    service = config.dataset.service
    configs = as_list(config.crossval.config_files) or [train_config(config, service)]
    setup = _setup(config, service, configs)
    truth = read_truth(setup.dataset_dir)
    if truth.service != service:
        raise ConfigError(
            f"dataset.service: {service}, but {setup.dataset_dir} was made for {truth.service}"
        )
    setup = replace(setup, stills=stills_of(config, truth.sample_fps))
    if truth.nobody is None:
        logger.warning(
            "metadata.json does not say in which clips nobody was tracked; they are not counted. "
            "Run --mode annotation.stage3 again"
        )
    paths = {split: _pickle(setup.dataset_dir, split, truth) for split in SPLITS}
    found = check_splits(paths, len(truth.classes), training="", may_be_empty=SPLITS)
    samples = {sample.name: sample for split in SPLITS for sample in found[split]}
    check_agreement(truth, list(samples.values()), setup.dataset_dir)
    if lost := sorted(truth.samples.keys() - samples):
        raise ValueError(f"{setup.dataset_dir}: metadata.json names {lost[0]!r}, no pickle has it")
    everything = {**truth.samples, **(truth.nobody or {})}
    parts = _parts(setup, everything, set(samples))
    names = "+".join(path.stem for path in configs)
    folder = config.crossval.output_dir or ROOT / "work_dirs" / "crossval" / names
    jobs = _jobs(folder, setup, truth, parts)
    with exclusive(folder):
        _train(config, setup, list(jobs.values()), watch)
        results = [_result(part, setup, jobs, truth) for part in parts]
        summary = write_report(folder, setup, truth, (results, samples), watch)
    logger.info("%s", summary)
    logger.info("the report is in %s", folder)
    logger.info("next, a classifier of all but the test sources, for each config: %s", "; ".join(
        next_command(config, f"train.{service}", {"train.config_file": [path]}) for path in configs
    ))  # fmt: skip
    return 0


def _setup(config: Config, service: str, configs: Sequence[Path]) -> Setup:
    """Return what is cross-validated; the names of the configs name the streams."""
    for path in configs:
        if not path.is_file():
            raise ConfigError(f"crossval.config_files: expected a file, found none at {path}")
    stems = [path.stem for path in configs]
    if len(set(stems)) != len(stems):
        raise ConfigError(f"crossval.config_files: expected different names, got {stems}")
    if len(set(config.crossval.seeds)) != len(config.crossval.seeds) or not config.crossval.seeds:
        raise ConfigError(
            f"crossval.seeds: expected one or more different seeds, got {config.crossval.seeds}"
        )
    return Setup(
        service=service,
        dataset_dir=find_pickle(config, service, "train").parent,
        configs=dict(zip(stems, configs, strict=True)),
        options=tuple(config.train.cfg_options),
        folds=config.crossval.folds,
        seeds=tuple(config.crossval.seeds),
        bootstrap=config.test.bootstrap,
        worst=config.test.worst,
    )


def _pickle(folder: Path, split: str, truth: Truth) -> Path:
    path = folder / f"{split}.pkl"
    if not path.is_file() or sha256_file(path) != truth.sha256[split]:
        raise ValueError(
            f"{path}: is not the pickle that metadata.json beside it is about; run --mode "
            "annotation.stage3 again"
        )
    return path


def _parts(setup: Setup, everything: Mapping[str, Facts], tracked: set[str]) -> list[Part]:
    """Deal all labelled clips out to folds, once per seed."""
    names = sorted(everything)
    labels = [everything[name].label for name in names]
    sources = [everything[name].source for name in names]
    parts = []
    for seed in setup.seeds:
        for number, fold in enumerate(source_folds(labels, sources, setup.folds, seed)):
            chosen = [names[i] for i in fold.test]
            here = tuple(name for name in chosen if name in tracked)
            lost = tuple(name for name in chosen if name not in tracked)
            parts.append(Part(seed, number, here, lost))
    return parts


def _jobs(
    folder: Path, setup: Setup, truth: Truth, parts: Sequence[Part]
) -> dict[tuple[str, int, int], FoldJob]:
    """Return the training of every config, seed and fold that has something to predict."""
    from recognizer.action.training import load_train_config

    jobs = {}
    for stream, path in setup.configs.items():
        try:
            cfg = load_train_config(path, list(setup.options))
        except ValueError as error:
            raise ConfigError(f"crossval.config_files, train.cfg_options: {error}") from error
        check_network(cfg, truth.classes)
        text = cfg.pretty_text
        facts = {
            "config": hashlib.sha256(text.encode()).hexdigest(),
            "pickles": dict(truth.sha256),
        }
        for part in parts:
            if not part.names:
                continue
            test = set(part.names)
            train = tuple(name for name in sorted(truth.samples) if name not in test)
            name = f"{stream}/seed{part.seed}_fold{part.fold:02d}"
            jobs[stream, part.seed, part.fold] = FoldJob(
                name=name,
                config_file=path,
                options=setup.options,
                seed=part.seed,
                folder=folder / name,
                key=job_key({**facts, "seed": part.seed}, train, part.names),
                train=train,
                test=part.names,
                source_of={n: truth.samples[n].source for n in train},
            )
    return jobs


def _train(config: Config, setup: Setup, jobs: Sequence[FoldJob], watch: Watch) -> None:
    """Run what is not finished yet; raise if any of it failed."""
    settled = [Outcome(job.name, "done") for job in jobs if read_result(job) is not None]
    done = {outcome.video for outcome in settled}
    left = [Job(job.name, job) for job in jobs if job.name not in done]
    count = worker_count(config.annotation)
    workforce = Workforce(
        start,
        [(setup.dataset_dir,)] * count,
        stall_timeout_s=_NEVER_S,
        memory_gb=config.annotation.worker_memory_gb,
    )
    with watch("cross-validation: trainings", len(jobs)) as progress:
        outcomes = settle(settled, left, workforce, progress)
    failed = [o for o in outcomes if o.state != "done"]
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(jobs)} trainings failed, the first: {failed[0].video}: "
            f"{failed[0].reason}\nThe same command goes on with those that are missing"
        )


def _result(
    part: Part, setup: Setup, jobs: Mapping[tuple[str, int, int], FoldJob], truth: Truth
) -> Result:
    """Return what all configs together, and each alone, said of one test part."""
    of_stream = {}
    for stream in setup.configs:
        rows = np.zeros((0, len(truth.classes)))
        if part.names:
            job = jobs[stream, part.seed, part.fold]
            found = read_result(job)
            if found is None:
                raise RuntimeError(f"{job.folder}: the finished predictions are gone; run again")
            rows = found
        of_stream[stream] = _predictions(part, rows, truth)
    fused = _predictions(part, fuse([said.probabilities for said in of_stream.values()]), truth)
    nobody = {name: (truth.nobody or {})[name] for name in part.nobody}
    return Result(
        seed=part.seed,
        fold=part.fold,
        said=fused.with_nobody(nobody),
        of_stream={name: said.with_nobody(nobody) for name, said in of_stream.items()},
    )


def _predictions(part: Part, rows: NDArray[np.float64], truth: Truth) -> Predictions:
    facts = [truth.samples[name] for name in part.names]
    return Predictions(
        classes=truth.classes,
        names=part.names,
        labels=np.array([f.label for f in facts], np.int64),
        probabilities=rows,
        sources=tuple(f.source for f in facts),
        tracked=np.ones(len(facts), np.bool_),
    )
