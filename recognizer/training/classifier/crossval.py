"""Mode test.crossval: k-fold cross-validation, whole sources at a time, over several seeds.

All samples of stage 3 take part, whatever its own split was; those of ``dataset.negatives`` are
in every training part and in no test part. Every (seed, fold, config) is one training in a worker
process; finished ones stay on disk and are not repeated. With as many folds as sources it is
leave-one-source-out.

With the movement stream the cross-validation is nested: that stream and its fusion with the poses
are chosen and fitted inside each fold's training part, on predictions of inner trainings there.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recognizer.action.evaluation import fuse
from recognizer.action.views import average
from recognizer.command import next_command
from recognizer.config.action import as_list
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.dataset.folds import source_folds
from recognizer.installation import PROJECT
from recognizer.runs.manifest import Outcome, exclusive
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.stills import stills_of
from recognizer.training.classifier.artifacts import (
    config_digest,
    find_pickle,
    train_config,
)
from recognizer.training.classifier.crossval_fold import FoldJob, finished_views, job_key, run_folds
from recognizer.training.classifier.crossval_report import CrossvalSetup, FoldResult, write_report
from recognizer.training.classifier.labels import (
    ClipLabel,
    DatasetLabels,
    read_dataset,
)
from recognizer.training.classifier.movement_fit import (
    Measures,
    MovementStream,
    fit_stream,
    inner_jobs,
    measure_samples,
    measure_views,
    measured_folds,
    predict_streams,
)
from recognizer.training.classifier.predictions import Predictions

logger = logging.getLogger(__name__)

Jobs = dict[tuple[str, int, int], FoldJob]


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """The test part of one fold of one seed: samples, and clips without a tracked person."""

    seed: int
    fold: int
    names: tuple[str, ...]
    untracked: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True)
class _Fits:
    """What the movement streams of all seeds and folds are fitted on.

    Attributes:
        setup: the settings of the cross-validation.
        jobs: the pose trainings.
        inner: the inner trainings of each.
        measures: of all samples, by name.
        dataset: the labels.

    """

    setup: CrossvalSetup
    jobs: Jobs
    inner: Mapping[tuple[str, int, int], Sequence[FoldJob]]
    measures: Measures
    dataset: DatasetLabels


@dataclass(frozen=True, eq=False, slots=True)
class _Movement:
    """The movement stream of one test part.

    Attributes:
        stream: fitted on the other parts; None: disabled, or no sample is in the part.
        by_view: the measures of the tested samples, as they are and in each test-time view;
            empty: the stream is disabled.

    """

    stream: MovementStream | None
    by_view: tuple[Measures, ...]


def crossval(config: Config, progress: ProgressFactory) -> int:
    """Cross-validate the configs and return the exit code."""
    service = config.dataset.service
    setup = _setup(config, service)
    dataset, of_splits = read_dataset(setup.dataset_dir, service)
    samples = {sample.name: sample for sample in of_splits}
    setup = replace(setup, stills=stills_of(config, dataset.sample_fps))
    if dataset.untracked is None:
        logger.warning(
            "metadata.json does not say in which clips nobody was tracked; they are not counted. "
            "Run --mode annotation.stage3 again"
        )
    parts = _parts(setup, dataset.labelled, set(samples))
    names = "+".join(setup.configs)
    folder = config.crossval.output_dir or PROJECT / "work_dirs" / "crossval" / names
    jobs = _jobs(folder, setup, dataset, parts)
    measures = measure_samples(list(samples.values()), service, config.crossval.movement)
    if measures is not None:  # so that faults show before hours of work
        for job in jobs.values():
            measured_folds(job, measures, dataset, setup.inner_folds)
    with exclusive(folder):
        inner = _train(config, setup, jobs, progress, None if measures is None else dataset)
        streams = {}
        by_view: tuple[Measures, ...] = ()
        if measures is not None:
            fits = _Fits(setup, jobs, inner, measures, dataset)
            streams = _fit_streams(fits, parts, progress)
            tested = [samples[name] for name in dataset.samples]
            by_view = (measures, *measure_views(tested, service, setup.views))
        results = [
            _result(
                part, setup, jobs, dataset, _Movement(streams.get((part.seed, part.fold)), by_view)
            )
            for part in parts
        ]
        summary = write_report(folder, setup, dataset, (results, samples), progress)
    logger.info("%s", summary)
    logger.info("the report is in %s", folder)
    logger.info(
        "next, a classifier of all but the test sources, for each config: %s",
        "; ".join(
            next_command(config, f"train.{service}", {"train.config_file": [path]})
            for path in setup.configs.values()
        ),
    )
    return 0


def streams_of(config: Config, service: str) -> dict[str, Path]:
    """Return the configs of the pose streams by name: ``crossval.config_files`` or training's.

    Raises:
        ConfigError: one that is not there, or two of one name.

    """
    configs = as_list(config.crossval.config_files) or [train_config(config, service)]
    for path in configs:
        if not path.is_file():
            raise ConfigError(f"crossval.config_files: expected a file, found none at {path}")
    stems = [path.stem for path in configs]
    if len(set(stems)) != len(stems):
        raise ConfigError(f"crossval.config_files: expected different names, got {stems}")
    return dict(zip(stems, configs, strict=True))


def _setup(config: Config, service: str) -> CrossvalSetup:
    """Return the settings of the cross-validation."""
    configs = streams_of(config, service)
    if len(set(config.crossval.seeds)) != len(config.crossval.seeds) or not config.crossval.seeds:
        raise ConfigError(
            f"crossval.seeds: expected one or more different seeds, got {config.crossval.seeds}"
        )
    return CrossvalSetup(
        service=service,
        dataset_dir=find_pickle(config, service, "train").parent,
        configs=configs,
        options=tuple(config.train.cfg_options),
        folds=config.crossval.folds,
        seeds=tuple(config.crossval.seeds),
        inner_folds=config.crossval.inner_folds,
        bootstrap=config.test.bootstrap,
        worst=config.test.worst,
        views=tuple(config.test.views),
    )


def _parts(setup: CrossvalSetup, clips: Mapping[str, ClipLabel], tracked: set[str]) -> list[Part]:
    """Split all labelled clips into folds, once per seed."""
    names = sorted(clips)
    labels = [clips[name].label for name in names]
    sources = [clips[name].source for name in names]
    parts = []
    for seed in setup.seeds:
        for number, fold in enumerate(source_folds(labels, sources, setup.folds, seed)):
            test = [names[i] for i in fold.test]
            with_people = tuple(name for name in test if name in tracked)
            untracked = tuple(name for name in test if name not in tracked)
            parts.append(Part(seed, number, with_people, untracked))
    return parts


def _jobs(
    folder: Path, setup: CrossvalSetup, dataset: DatasetLabels, parts: Sequence[Part]
) -> Jobs:
    """Return the training of every config, seed and fold that has something to predict."""
    jobs = {}
    for stream, path in setup.configs.items():
        digest = config_digest(path, setup.options, dataset.classes, "crossval.config_files")
        decides = {"config": digest, "pickles": dict(dataset.sha256)}
        for part in parts:
            if not part.names:
                continue
            test = set(part.names)
            train = tuple(name for name in sorted(dataset.samples) if name not in test)
            name = f"{stream}/seed{part.seed}_fold{part.fold:02d}"
            jobs[stream, part.seed, part.fold] = FoldJob(
                name=name,
                config_file=path,
                options=setup.options,
                seed=part.seed,
                folder=folder / name,
                key=job_key({**decides, "seed": part.seed}, train, part.names),
                train=train,
                test=part.names,
                source_of={n: dataset.samples[n].source for n in train},
                views=setup.views,
                negatives=tuple(sorted(dataset.negatives)),
            )
    return jobs


def _train(
    config: Config,
    setup: CrossvalSetup,
    jobs: Jobs,
    progress: ProgressFactory,
    dataset: DatasetLabels | None,
) -> dict[tuple[str, int, int], tuple[FoldJob, ...]]:
    """Run the unfinished trainings and return the inner ones of every job.

    Without ``dataset`` there are no inner trainings. RuntimeError if one failed.
    """
    inner = {
        key: () if dataset is None else inner_jobs(job, dataset, setup.inner_folds)
        for key, job in jobs.items()
    }
    every = [*jobs.values(), *(job for part in inner.values() for job in part)]
    with progress("cross-validation: trainings", len(every)) as advance:
        run_folds(config.annotation, setup.dataset_dir, every, advance)
    return inner


def _fit_streams(
    fits: _Fits, parts: Sequence[Part], progress: ProgressFactory
) -> dict[tuple[int, int], MovementStream]:
    """Return the movement stream of every seed and fold; none without inner trainings."""
    if not any(fits.inner.values()):
        return {}
    fitted = {}
    with progress("cross-validation: movement streams", len(parts)) as advance:
        for part in parts:
            keys = [(name, part.seed, part.fold) for name in fits.setup.configs]
            if part.names:
                fitted[part.seed, part.fold] = fit_stream(
                    fits.jobs[keys[0]],
                    [fits.inner[key] for key in keys],
                    fits.measures,
                    fits.dataset,
                    fits.setup.inner_folds,
                )
            advance(Outcome(f"seed{part.seed}_fold{part.fold:02d}", "done"), 0)
    return fitted


def _result(
    part: Part,
    setup: CrossvalSetup,
    jobs: Jobs,
    dataset: DatasetLabels,
    movement: _Movement,
) -> FoldResult:
    """Return the predictions of one test part, by all streams together and by each alone."""
    views = {
        name: finished_views(jobs[name, part.seed, part.fold])
        if part.names
        else np.zeros((1, 0, len(dataset.classes)))
        for name in setup.configs
    }
    rows = {name: average(list(of_view)) for name, of_view in views.items()}
    untracked = {name: (dataset.untracked or {})[name] for name in part.untracked}
    parts = {"pose": fuse(list(rows.values()))}
    stream = movement.stream
    if stream is not None:
        pose = np.stack([fuse(of_view) for of_view in zip(*views.values(), strict=True)])
        parts |= predict_streams(stream, part.names, pose, movement.by_view)
    elif movement.by_view:  # no sample is in the test part
        parts |= dict.fromkeys(("movement", "equal_weights", "fused"), parts["pose"])
    fused = {
        name: _predictions(part, values, dataset).with_untracked(untracked)
        for name, values in parts.items()
    }
    return FoldResult(
        seed=part.seed,
        fold=part.fold,
        predictions=fused.pop("fused", fused["pose"]),
        of_stream={
            name: _predictions(part, values, dataset).with_untracked(untracked)
            for name, values in rows.items()
        },
        alone=fused if movement.by_view else {},
        movement=None if stream is None else stream.to_json(),
    )


def _predictions(part: Part, rows: NDArray[np.float64], dataset: DatasetLabels) -> Predictions:
    clips = [dataset.samples[name] for name in part.names]
    return Predictions(
        classes=dataset.classes,
        names=part.names,
        labels=np.array([clip.label for clip in clips], np.int64),
        probabilities=rows,
        sources=tuple(clip.source for clip in clips),
        tracked=np.ones(len(clips), np.bool_),
    )
