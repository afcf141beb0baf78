"""The movement stream of fights, learnt with the windows of all groups of falls but one."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from sklearn.metrics import roc_auc_score

from recognizer.action.events import match_events, merge_windows
from recognizer.action.measures import clip_measures, has_movement
from recognizer.action.movement_model import fit_movement, predict_movement
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.dataset.folds import source_folds
from recognizer.dataset.mmaction import METADATA, read_split
from recognizer.dataset.samples import NoTrackedPeopleError, build_sample, people_of
from recognizer.dataset.split import SPLITS
from recognizer.dataset.windows import Span, plan_windows, slice_sequence, span_of
from recognizer.scoring.ranking import Service
from recognizer.training.classifier.labels import DatasetLabels, read_labels
from recognizer.training.classifier.movement_fit import Measures, measure_samples
from recognizer.types import FloatArray, IntArray, PoseSequence, TimeArray

SETTING = "random forest, leaves of 4"  # of all models: a choice for each would take an hour
FOLDS, SEEDS = 5, (0, 1, 2)
USUAL = 0.5  # threshold

Falls = Mapping[str, Iterable[Span]]  # start and stop of the falls of each video, seconds
Predicted = tuple[list[Span], TimeArray]  # windows of a video, the probability of a fight in each
Clips = tuple[IntArray, TimeArray]  # labels of clips, the probability of a fight in each
Metrics = dict[str, Any]  # JSON values


def group_of(video: str) -> str:
    """Return the group of a video of falls: its first folder, such as the person who falls."""
    return video.split("/")[0]


def falls_within(falls: Falls, video: str, span: Span) -> TimeArray:
    """Return the parts (N, 2) of a video's falls that are inside its span, seconds."""
    truth = np.clip(np.array([*falls.get(video, [])], np.float64).reshape(-1, 2), *span)
    return truth[truth[:, 1] > truth[:, 0]]


@dataclass(frozen=True, eq=False)
class Data:
    """A finished stage 3 with negatives: ground truth, the samples' measures, window and model.

    ``setting`` is a name of ``movement_model.SETTINGS``.
    """

    truth: DatasetLabels
    service: Service
    measures: Measures
    window_s: float
    setting: str


def read_data(folder: Path, setting: str = SETTING, videos: Iterable[str] = ()) -> Data:
    """Read the pickles of a stage 3 whose ``dataset.negatives`` are the falls.

    Raises:
        ConfigError: it has no negatives, or none of a group of the ``videos``: nothing would be
            left out for that.

    """
    truth = read_labels(folder)
    if not truth.negatives:
        raise ConfigError(f"--leave-out: expected a stage 3 with dataset.negatives, got {folder}")
    learnt = sorted({clip.video for clip in truth.negatives.values()})
    known = {group_of(video) for video in learnt}
    if strange := [video for video in videos if group_of(video) not in known]:
        raise ConfigError(
            f"--leave-out: expected negatives of every group (first folder) of the falls, found "
            f"none of {group_of(strange[0])} ({strange[0]}) in {folder}, whose negatives are of "
            f"{', '.join(sorted(known))} ({learnt[0]}); make both with the same names of videos"
        )
    window_s = json.loads((folder / METADATA).read_bytes())["negatives"]["window_s"]
    samples = [s for split in SPLITS for s in read_split(folder / f"{split}.pkl")]
    measures = measure_samples(samples, truth.service, enabled=True)
    if measures is None:
        raise ConfigError(f"--leave-out: expected samples with measured movement in {folder}")
    return Data(truth, cast(Service, truth.service), measures, window_s, setting)


def fit(
    data: Data,
    names: Iterable[str],
    seed: int,
    *,
    without: str | None = None,
    negatives: bool = True,
) -> Any:
    """Return a model of some clips and, with ``negatives``, of all groups but ``without``."""
    others = {n for n, f in data.truth.negatives.items() if group_of(f.video) != without}
    measures = _measured(data, sorted({*names, *(others if negatives else ())}))
    rows = np.stack(list(measures.values()))
    labels = np.array([data.truth.pickled[name].label for name in measures], np.int64)
    return fit_movement(data.setting, rows, labels, seed)


def _measured(data: Data, names: Iterable[str]) -> dict[str, FloatArray]:
    """Return the measures of those samples that have any, in order."""
    measures = ((name, data.measures[name]) for name in names)
    return {name: rows for name, rows in measures if rows is not None}


def fit_groups(data: Data, groups: Collection[str], *, negatives: bool) -> dict[str, Any]:
    """Return, for each group, the model that did not learn from its negatives."""
    names = data.truth.samples
    if not negatives:
        return dict.fromkeys(groups, fit(data, names, 0, negatives=False))
    return {group: fit(data, names, 0, without=group) for group in groups}


def classify(data: Data, model: Any, sequence: PoseSequence, config: Config) -> Predicted:
    """Return the windows (start, stop) of a video and the probability of a fight in each."""
    spans: list[Span] = []
    rows, people = [], data.truth.num_person
    for start, stop in plan_windows(sequence, data.window_s, data.window_s / 2):
        cut = slice_sequence(sequence, start, stop)
        if len(cut) < config.dataset.min_frames:
            continue
        try:
            ids, _ = people_of(cut, data.service, config.scoring, people)
        except NoTrackedPeopleError:
            continue
        sample = build_sample(cut, ids, people, "window", 0)
        if has_movement(sample):
            spans.append((start, stop))
            rows.append(clip_measures(sample, data.truth.service))
    if not rows:
        return [], np.zeros(0)
    return spans, 1 - predict_movement(model, np.stack(rows))[:, 0]


def over_folds(data: Data, seed: int, *, negatives: bool) -> Clips:
    """Return labels and held-out probabilities of a fight of all clips, in folds by source.

    Clips without measured movement count as normal.
    """
    clips = data.truth.samples
    names = sorted(clips)
    labels = np.array([clips[name].label for name in names])
    folds = source_folds(labels.tolist(), [clips[name].source for name in names], FOLDS, seed)
    probabilities = np.zeros(len(names))
    for fold in folds:
        model = fit(data, [names[i] for i in fold.train], seed, negatives=negatives)
        measures = _measured(data, [names[i] for i in fold.test])
        known = [i for i in fold.test if names[i] in measures]
        rows = np.stack([measures[names[i]][0] for i in known])
        probabilities[known] = 1 - predict_movement(model, rows)[:, 0]
    return labels, probabilities


# --- falls and clips -----------------------------------------------------------------


def leave_out(
    stage3: Path,
    sequences: Mapping[str, PoseSequence],
    falls: Falls,
    config: Config,
    setting: str = SETTING,
) -> Metrics:
    """Return the movement stream's metrics on falls and clips, without negatives and with them.

    Args:
        stage3: folder of the fight clips, with the falls as negatives.
        sequences: tracks of each video with falls.
        falls: (start, stop) of each, seconds, by video.
        config: the config.
        setting: of the movement stream, in all trainings.

    """
    data = read_data(stage3, setting, sequences)
    result: Metrics = {}
    recall = None
    for negatives in (False, True):
        clips = [over_folds(data, seed, negatives=negatives) for seed in SEEDS]
        labels, probabilities = (np.concatenate(part) for part in zip(*clips, strict=True))
        recall = float((probabilities[labels > 0] >= USUAL).mean()) if recall is None else recall
        models = fit_groups(data, sorted(set(map(group_of, sequences))), negatives=negatives)
        predictions = {
            v: classify(data, models[group_of(v)], s, config) for v, s in sequences.items()
        }
        same = float(np.quantile(probabilities[labels > 0], 1 - recall))
        result["with negatives" if negatives else "without"] = {
            "auc": float(roc_auc_score(labels, probabilities)),
            **{
                name: at_threshold(
                    threshold, (labels, probabilities), predictions, (sequences, falls, config)
                )
                for name, threshold in (("usual", USUAL), ("same_recall", same))
            },
        }
    return result


def at_threshold(
    threshold: float,
    clips: Clips,
    predictions: Mapping[str, Predicted],
    footage: tuple[Mapping[str, PoseSequence], Falls, Config],
) -> Metrics:
    """Return how many clips are right and how many falls are called fights, at a threshold."""
    (labels, probabilities), (sequences, falls, config) = clips, footage
    hits: list[bool] = []
    alarms = 0
    for video, (spans, event) in predictions.items():
        joined = merge_windows(
            spans, event, threshold=threshold, merge_gap_s=config.inference.merge_gap_s
        )
        alarms += len(joined)
        truth = falls_within(falls, video, span_of(sequences[video]))
        hits += match_events([(i.start_s, i.stop_s) for i in joined], truth)[1].tolist()
    return {
        "threshold": threshold,
        "accuracy": float(((probabilities >= threshold) == labels).mean()),
        "recall": float((probabilities[labels > 0] >= threshold).mean()),
        "specificity": float((probabilities[labels == 0] < threshold).mean()),
        "falls": len(hits),
        "falls_called_fights": int(sum(hits)),
        "alarms": alarms,
    }


def report_left_out(result: Metrics) -> None:
    """Print the metrics of ``leave_out``."""
    for name, metrics in result.items():
        print(
            f"movement stream, {name}: fight clips in {FOLDS} folds, {len(SEEDS)} seeds: AUC "
            f"{metrics['auc']:.3f}"
        )
        for key in ("usual", "same_recall"):
            at = metrics[key]
            print(
                f"  threshold {at['threshold']:.2f}: accuracy {at['accuracy']:.3f}, recall "
                f"{at['recall']:.3f}, specificity {at['specificity']:.3f}; "
                f"{at['falls_called_fights']} of {at['falls']} falls called fights, "
                f"{at['alarms']} alarms in that footage"
            )
