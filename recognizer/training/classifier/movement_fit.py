"""Fit the movement stream and its fusion on held-out predictions of the pose stream."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from recognizer.action.evaluation import fuse
from recognizer.action.fusion import Fusion, fit_fusion
from recognizer.action.measures import clip_measures, has_movement, measures_to_learn
from recognizer.action.movement_model import (
    SelectedSetting,
    choose_setting,
    fit_movement,
    inner_folds,
    predict_movement,
)
from recognizer.action.views import VIEWS, average
from recognizer.config.file import ConfigError
from recognizer.dataset.folds import Fold
from recognizer.training.classifier.crossval_fold import FoldJob, finished, job_key
from recognizer.training.classifier.labels import NORMAL, DatasetLabels
from recognizer.types import Float64Array, FloatArray, Sample

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

logger = logging.getLogger(__name__)

Measures = Mapping[str, FloatArray | None]


@dataclass(frozen=True, eq=False, slots=True)
class MovementStream:
    """A fitted movement stream and its fusion with the pose stream.

    Attributes:
        model: of scikit-learn, fitted on all samples.
        choice: its setting, and the predictions of that setting in cross-validation.
        fusion: the weights, fitted on held-out predictions of both streams.
        names: the samples it learnt from, those with measured movement.
        negatives: number of samples of ``dataset.negatives`` that it learnt from as well.

    """

    model: "ClassifierMixin"
    choice: SelectedSetting
    fusion: Fusion
    names: tuple[str, ...]
    negatives: int = 0

    def to_json(self) -> dict[str, object]:
        """Return setting, losses and fusion as plain values."""
        losses = {name: round(loss, 6) for name, loss in self.choice.log_loss.items()}
        return {
            "setting": self.choice.setting,
            "log_loss": losses,
            "fusion": self.fusion.to_json(),
            "samples": len(self.names),
            **({"negatives": self.negatives} if self.negatives else {}),
        }


def measure_samples(
    samples: Sequence[Sample], service: str, enabled: bool | Literal["auto"]
) -> Measures | None:
    """Return the measures of each sample and of parts of it, (P, F), by name.

    The measures of a sample without measured movement are None.

    Returns:
        None if the movement stream is disabled or, with ``auto``, not possible.

    Raises:
        ConfigError: it is enabled, and a sample carries no movement.

    """
    if enabled is False:
        return None
    without = [s.name for s in samples if s.movement is None or s.boxes is None or s.time_s is None]
    if without:
        text = (
            f"expected movement in every sample, with boxes and times, got none in {len(without)} "
            f"of {len(samples)}, the first: {without[0]}; make poses, tracks and pickles again "
            "with this version (--mode annotation.pipeline, annotation.movement: true)"
        )
        if enabled is True:
            raise ConfigError(
                f"movement stream: {text}, or use the pose stream alone (crossval.movement: false)"
            )
        logger.warning("the pose stream alone is measured: %s", text)
        return None
    return {
        sample.name: measures_to_learn(sample, service) if has_movement(sample) else None
        for sample in samples
    }


def measure_views(
    samples: Sequence[Sample], service: str, views: Sequence[str]
) -> tuple[Measures, ...]:
    """Return the measures of the samples in each of some test-time views, (1, F), by name.

    Only one changed sample is in memory at a time.
    """
    of_view: tuple[dict[str, FloatArray | None], ...] = tuple({} for _ in views)
    for view, measures in zip(views, of_view, strict=True):
        for sample in samples:
            changed = VIEWS[view](sample).sample
            known = has_movement(changed)
            measures[sample.name] = clip_measures(changed, service)[None] if known else None
    return of_view


# --- pose predictions that are held out --------------------------------------------


def inner_jobs(job: FoldJob, dataset: DatasetLabels, folds: int) -> tuple[FoldJob, ...]:
    """Return the trainings that together predict each sample of a job's training part once.

    Each trains on other sources than it predicts, all inside the training part. They predict
    without test-time views, as ``train.movement`` fits the fusion without.
    """
    jobs = []
    for number, fold in enumerate(_folds(job, dataset, folds)):
        train, test = (tuple(job.train[i] for i in part) for part in (fold.train, fold.test))
        inner = replace(
            job,
            name=f"{job.name}_inner{number}",
            folder=job.folder.with_name(f"{job.folder.name}_inner{number}"),
            key=job_key({"outer": job.key}, train, test),
            train=train,
            test=test,
            source_of={name: job.source_of[name] for name in train},
            views=(),
        )
        jobs.append(inner)
    return tuple(jobs)


def _folds(job: FoldJob, dataset: DatasetLabels, folds: int) -> list[Fold]:
    labels = [dataset.samples[name].label for name in job.train]
    return inner_folds(labels, [job.source_of[name] for name in job.train], folds, job.seed)


def held_out_pose(streams: Sequence[Sequence[FoldJob]], names: Sequence[str]) -> Float64Array:
    """Return the probabilities (N, K), averaged over the streams, from their inner trainings."""
    of_stream = []
    for jobs in streams:
        rows = {
            name: row for job in jobs for name, row in zip(job.test, finished(job), strict=True)
        }
        of_stream.append(np.stack([rows[name] for name in names]))
    return fuse(of_stream)


def measured_folds(
    job: FoldJob, measures: Measures, dataset: DatasetLabels, folds: int
) -> tuple[list[str], list[Fold]]:
    """Return the names of a job's training samples with measured movement, and folds of them.

    It is called before the pose trainings too, so that faults show before hours of work.

    Raises:
        ValueError: too few sources, or a training part without measured samples of a class.

    """
    measured = np.array([measures[name] is not None for name in job.train])
    place = np.cumsum(measured) - 1
    names = [name for name, known in zip(job.train, measured, strict=True) if known]
    labels = np.array([dataset.samples[name].label for name in names], np.int64)
    kept = [
        Fold(*(place[part[measured[part]]] for part in (fold.train, fold.test)))
        for fold in _folds(job, dataset, folds)
    ]
    for fold in kept:
        here = set(labels[fold.train].tolist())
        if missing := [name for i, name in enumerate(dataset.classes) if i not in here]:
            raise ValueError(
                f"{job.name}: the movement stream needs samples of every class with measured "
                f"movement in each part that it learns from, got none of {missing[0]} in one of "
                f"{len(kept)} ({len(names)} of {len(job.train)} samples are measured); lower "
                "crossval.inner_folds, add sources of that class, or use the poses alone "
                "(crossval.movement=false)"
            )
    return names, kept


# --- fitting and predicting --------------------------------------------------------


def fit_stream(
    job: FoldJob,
    inner: Sequence[Sequence[FoldJob]],
    measures: Measures,
    dataset: DatasetLabels,
    folds: int,
) -> MovementStream:
    """Choose and fit the movement stream and the fusion inside a job's training part.

    Args:
        job: its training part and negatives are used, its test part is not.
        inner: finished inner trainings, of each pose stream; see ``inner_jobs``.
        measures: of ``measure_samples``.
        dataset: the labels.
        folds: as for ``inner_jobs``.

    Raises:
        ValueError: too few sources or samples with measured movement.

    """
    model, choice, names, negatives = fit_alone(job, measures, dataset, folds)
    labels = np.array([dataset.samples[name].label for name in names], np.int64)
    fusion = fit_fusion(held_out_pose(inner, names), choice.held_out, labels)
    return MovementStream(model, choice, fusion, names, negatives)


def fit_alone(
    job: FoldJob, measures: Measures, dataset: DatasetLabels, folds: int
) -> tuple["ClassifierMixin", SelectedSetting, tuple[str, ...], int]:
    """Choose and fit the movement stream, without the pose stream.

    Negatives are in every training part; settings are not compared on them.

    Returns:
        The model, the choice, the samples of the training part that it learnt from, and how many
        negatives beside them.

    Raises:
        ValueError: as ``fit_stream``.

    """
    names, kept = measured_folds(job, measures, dataset, folds)
    with_negatives = [*names, *(name for name in job.negatives if measures[name] is not None)]
    rows = np.stack([row for name in with_negatives if (row := measures[name]) is not None])
    clips = dataset.pickled
    labels = np.array([clips[name].label for name in with_negatives], np.int64)
    negatives = np.arange(len(names), len(with_negatives))
    kept = [Fold(np.concatenate([fold.train, negatives]), fold.test) for fold in kept]
    choice = choose_setting(rows, labels, kept, job.seed)
    model = fit_movement(choice.setting, rows, labels, job.seed)
    return model, choice, tuple(names), len(negatives)


def predict_streams(
    stream: MovementStream,
    names: Sequence[str],
    pose: Float64Array,
    measures: Sequence[Measures],
) -> dict[str, Float64Array]:
    """Return (N, K) of ``movement`` alone, ``equal_weights`` and ``fused``.

    The streams are fused in each view and then averaged, as ``Classifier.predict`` does.

    Args:
        stream: fitted on other samples.
        names: N samples.
        pose: (V, N, K) probabilities of the pose stream in each view.
        measures: of the samples in each view.

    """
    views = [_predict_view(stream, names, p, m) for p, m in zip(pose, measures, strict=True)]
    return {name: average([view[name] for view in views]) for name in views[0]}


def _predict_view(
    stream: MovementStream, names: Sequence[str], pose: Float64Array, measures: Measures
) -> dict[str, Float64Array]:
    """Return (N, K) of each stream and of both in one view.

    Where no movement was measured, the last two are those of the pose stream, and ``movement`` is
    the normal class, as for clips without a tracked person.
    """
    movement = np.zeros_like(pose)
    movement[:, NORMAL] = 1
    equal, fused = pose.copy(), pose.copy()
    known = np.array([i for i, name in enumerate(names) if measures[name] is not None], np.int64)
    if len(known):
        rows = np.stack([of[0] for name in names if (of := measures[name]) is not None])
        movement[known] = predict_movement(stream.model, rows)
        half = Fusion(0.5, 0.5, (0.0,) * pose.shape[1])
        equal[known] = half(pose[known], movement[known])
        fused[known] = stream.fusion(pose[known], movement[known])
    return {"movement": movement, "equal_weights": equal, "fused": fused}
