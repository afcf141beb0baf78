"""Mode train.movement: fit the movement stream and its fusion with the pose stream.

It learns from what train.fight or train.falldown learn from: the training and validation samples,
not those of the test split. The pose stream's predictions for the fusion come from trainings that
hold the samples' sources out; finished ones are not repeated. Samples of ``dataset.negatives`` are
in every training part and in no predicted one.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recognizer.action.evaluation import measure
from recognizer.action.measures import measure_names
from recognizer.action.movement_metadata import MovementMetadata
from recognizer.command import next_command
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.installation import PROJECT
from recognizer.runs.manifest import exclusive
from recognizer.runs.progress import ProgressFactory
from recognizer.storage.artifacts import atomic_path
from recognizer.training.classifier.artifacts import (
    config_digest,
    find_pickle,
    trained_checkpoint,
)
from recognizer.training.classifier.crossval import streams_of
from recognizer.training.classifier.crossval_fold import FoldJob, job_key, run_folds
from recognizer.training.classifier.labels import (
    DatasetLabels,
    read_dataset,
)
from recognizer.training.classifier.movement_fit import (
    MovementStream,
    fit_stream,
    held_out_pose,
    inner_jobs,
    measure_samples,
    measured_folds,
)

logger = logging.getLogger(__name__)


def train_movement(config: Config, progress: ProgressFactory) -> int:
    """Fit the movement stream of ``dataset.service`` and write it; return the exit code."""
    from recognizer.action.movement_graph import write_movement

    service = config.dataset.service
    folder = find_pickle(config, service, "train").parent
    dataset, samples = read_dataset(folder, service)
    labelled = [sample.name for sample in samples if sample.name in dataset.samples]
    names = [name for name in labelled if dataset.samples[name].split != "test"]
    measures = measure_samples(samples, service, enabled=True)
    configs = streams_of(config, service)
    output = (config.train.work_dir or PROJECT / "work_dirs" / "+".join(configs)) / "movement.onnx"
    jobs = _jobs(config, configs, dataset, names, output.with_suffix(""))
    folds = config.crossval.inner_folds
    measured_folds(jobs[0], measures or {}, dataset, folds)
    inner = [inner_jobs(job, dataset, folds) for job in jobs]
    with exclusive(output.with_suffix("")):
        trainings = [job for part in inner for job in part]
        with progress("held-out pose predictions: trainings", len(trainings)) as advance:
            run_folds(config.annotation, folder, trainings, advance)
        stream = fit_stream(jobs[0], inner, measures or {}, dataset, folds)
    metadata = MovementMetadata(
        measure_names(service),
        stream.fusion,
        _training(stream, jobs, inner, dataset, config),
        dataset.num_person,
    )
    with atomic_path(output, output.parent) as scratch:
        write_movement(scratch, stream.model, metadata, service, dataset.classes)
    _log_result(config, service, output, metadata)
    return 0


def _jobs(
    config: Config,
    configs: Mapping[str, Path],
    dataset: DatasetLabels,
    names: Sequence[str],
    folder: Path,
) -> list[FoldJob]:
    """Return for each config a job on all samples, from which its inner jobs are made."""
    options, seed = tuple(config.train.cfg_options), config.train.seed
    jobs = []
    for name, path in configs.items():
        digest = config_digest(path, options, dataset.classes, "train.config_file")
        decides = {"config": digest, "pickles": dict(dataset.sha256), "seed": seed}
        jobs.append(
            FoldJob(
                name=name,
                config_file=path,
                options=options,
                seed=seed,
                folder=folder / name,
                key=job_key(decides, names, ()),
                train=tuple(sorted(names)),
                test=(),
                source_of={name: dataset.samples[name].source for name in names},
                negatives=tuple(sorted(dataset.negatives)),
            )
        )
    return jobs


def _training(
    stream: MovementStream,
    jobs: Sequence[FoldJob],
    inner: Sequence[Sequence[FoldJob]],
    dataset: DatasetLabels,
    config: Config,
) -> dict[str, object]:
    """Return how the stream was fitted, with metrics of held-out predictions, for the file."""
    return {
        **stream.to_json(),
        "sources": len({dataset.samples[name].source for name in jobs[0].train}),
        "seed": config.train.seed,
        "inner_folds": len(inner[0]),
        "pose_configs": [job.config_file.name for job in jobs],
        "cfg_options": list(config.train.cfg_options),
        "pickles_sha256": dict(dataset.sha256),
        "held_out": _held_out_metrics(stream, inner, dataset),
    }


def _held_out_metrics(
    stream: MovementStream, inner: Sequence[Sequence[FoldJob]], dataset: DatasetLabels
) -> dict[str, dict[str, float | None]]:
    """Return the metrics of both streams on held-out samples, and of their fusion.

    The fusion's weights were fitted on these samples, three numbers; test.crossval measures it on
    others.
    """
    names = stream.names
    pose = held_out_pose(inner, names)
    labels = np.array([dataset.samples[name].label for name in names], np.int64)
    movement = stream.choice.held_out
    predicted = {"pose": pose, "movement": movement, "fused": stream.fusion(pose, movement)}
    return {
        name: {
            key: None if value.value is None else round(value.value, 6)
            for key, value in measure(
                labels, values, dataset.classes, bootstrap=0, seed=0
            ).overall.items()
        }
        for name, values in predicted.items()
    }


def _log_result(config: Config, service: str, output: Path, metadata: MovementMetadata) -> None:
    for name, metrics in metadata.training["held_out"].items():
        logger.info(
            "%s, held out by source: %s",
            name,
            ", ".join(
                f"{key.replace('_', ' ')} {value:.3f}"
                for key, value in metrics.items()
                if value is not None
            ),
        )
    fusion = metadata.fusion
    logger.info(
        "%s: %s; fusion: pose %.2f, movement %.2f",
        output,
        metadata.training["setting"],
        fusion.pose,
        fusion.movement,
    )
    changes: dict[str, object] = {"deploy.model": service, "deploy.movement": output.absolute()}
    try:
        changes["deploy.checkpoint"] = [trained_checkpoint(config, service)]
    except ConfigError:
        changes["deploy.checkpoint"] = f"<best_*.pth of --mode train.{service}>"
    logger.info("next: %s", next_command(config, "deploy.export", changes))
