"""The movement stream of fights, learnt with the windows of all groups of falls but one."""

import json
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from recognizer.action.events import match_events, merge_windows
from recognizer.action.measures import clip_measures, has_movement
from recognizer.action.movement_model import fit_movement, predict_movement
from recognizer.config.file import ConfigError
from recognizer.dataset.folds import source_folds
from recognizer.dataset.mmaction import METADATA, read_split
from recognizer.dataset.samples import NoTrackedPeopleError, build_sample, people_of
from recognizer.dataset.split import SPLITS
from recognizer.dataset.windows import plan_windows, slice_sequence, span_of
from recognizer.training.classifier.labels import DatasetLabels, read_labels
from recognizer.training.classifier.movement_fit import measure_samples

SETTING = "random forest, leaves of 4"  # of all models: a choice for each would take an hour
FOLDS, SEEDS = 5, (0, 1, 2)
USUAL = 0.5  # threshold


def group_of(video):
    """Return the group of a video of falls: its first folder, such as the person who falls."""
    return video.split("/")[0]


def falls_within(falls, video, span):
    """Return the falls (N, 2) of a video, seconds, as far as they are inside its span."""
    truth = np.clip(np.array(falls.get(video, []), np.float64).reshape(-1, 2), *span)
    return truth[truth[:, 1] > truth[:, 0]]


@dataclass(frozen=True, eq=False)
class Data:
    """A finished stage 3 with negatives: its facts, its samples' measures, the window, the model.

    ``setting`` is a name of ``movement_model.SETTINGS``.
    """

    truth: DatasetLabels
    measures: dict
    window_s: float
    setting: str


def read_data(folder, setting=SETTING, videos=()):
    """Read the pickles of a stage 3 whose ``dataset.negatives`` are the falls.

    Raises:
        ConfigError: it has no negatives, or none of a group of the ``videos``: nothing would be
            left out for that.

    """
    truth = read_labels(folder)
    if not truth.negatives:
        raise ConfigError(f"--leave-out: expected a stage 3 with dataset.negatives, got {folder}")
    learnt = sorted({facts.video for facts in truth.negatives.values()})
    known = {group_of(video) for video in learnt}
    if strange := [video for video in videos if group_of(video) not in known]:
        raise ConfigError(
            f"--leave-out: expected negatives of every group (first folder) of the falls, found "
            f"none of {group_of(strange[0])} ({strange[0]}) in {folder}, whose negatives are of "
            f"{', '.join(sorted(known))} ({learnt[0]}); make both with the same names of videos"
        )
    window_s = json.loads((folder / METADATA).read_bytes())["negatives"]["window_s"]
    samples = [s for split in SPLITS for s in read_split(folder / f"{split}.pkl")]
    return Data(truth, measure_samples(samples, truth.service, wanted=True), window_s, setting)


def fit(data, names, seed, *, without=None, negatives=True):
    """Return a model of some clips and, with ``negatives``, of all groups but ``without``."""
    others = {n for n, f in data.truth.negatives.items() if group_of(f.video) != without}
    facts = data.truth.pickled
    learnt = [
        n for n in sorted({*names, *(others if negatives else ())}) if data.measures[n] is not None
    ]
    rows = np.stack([data.measures[name] for name in learnt])
    labels = np.array([facts[name].label for name in learnt], np.int64)
    return fit_movement(data.setting, rows, labels, seed)


def fit_groups(data, groups, *, negatives):
    """Return, for each group, the model that did not learn from its negatives."""
    names = data.truth.samples
    if not negatives:
        return dict.fromkeys(groups, fit(data, names, 0, negatives=False))
    return {group: fit(data, names, 0, without=group) for group in groups}


def classify(data, model, sequence, config):
    """Return the windows (start, stop) of a video and the probability of a fight in each."""
    spans, rows, people = [], [], data.truth.num_person
    for start, stop in plan_windows(sequence, data.window_s, data.window_s / 2):
        cut = slice_sequence(sequence, start, stop)
        if len(cut) < config.dataset.min_frames:
            continue
        try:
            ids, _ = people_of(cut, data.truth.service, config.scoring, people)
        except NoTrackedPeopleError:
            continue
        sample = build_sample(cut, ids, people, "window", 0)
        if has_movement(sample):
            spans.append((start, stop))
            rows.append(clip_measures(sample, data.truth.service))
    if not rows:
        return [], np.zeros(0)
    return spans, 1 - predict_movement(model, np.stack(rows))[:, 0]


def over_folds(data, seed, *, negatives):
    """Return labels and held-out probabilities of a fight of all clips, in folds by source.

    Clips without measured movement count as normal.
    """
    facts = data.truth.samples
    names = sorted(facts)
    labels = np.array([facts[name].label for name in names])
    folds = source_folds(labels.tolist(), [facts[name].source for name in names], FOLDS, seed)
    said = np.zeros(len(names))
    for fold in folds:
        model = fit(data, [names[i] for i in fold.train], seed, negatives=negatives)
        known = [i for i in fold.test if data.measures[names[i]] is not None]
        rows = np.stack([data.measures[names[i]][0] for i in known])
        said[known] = 1 - predict_movement(model, rows)[:, 0]
    return labels, said


# --- falls and clips -----------------------------------------------------------------


def leave_out(stage3, sequences, falls, config, setting=SETTING):
    """Return what the movement stream says of falls and clips, without negatives and with them.

    Args:
        stage3: folder of the fight clips, with the falls as negatives.
        sequences: what stage 2 gives of each video with falls.
        falls: (start, stop) of each, seconds, by video.
        config: the config.
        setting: of the movement stream, in all trainings.

    """
    data, result = read_data(stage3, setting, sequences), {}
    recall = None
    for negatives in (False, True):
        clips = [over_folds(data, seed, negatives=negatives) for seed in SEEDS]
        labels, said = (np.concatenate(part) for part in zip(*clips, strict=True))
        recall = float((said[labels > 0] >= USUAL).mean()) if recall is None else recall
        models = fit_groups(data, sorted(set(map(group_of, sequences))), negatives=negatives)
        judged = {v: classify(data, models[group_of(v)], s, config) for v, s in sequences.items()}
        same = float(np.quantile(said[labels > 0], 1 - recall))
        result["with negatives" if negatives else "without"] = {
            "auc": float(roc_auc_score(labels, said)),
            **{
                name: at_threshold(threshold, (labels, said), judged, (sequences, falls, config))
                for name, threshold in (("usual", USUAL), ("same_recall", same))
            },
        }
    return result


def at_threshold(threshold, clips, judged, footage):
    """Return how many clips are right and how many falls are called fights, at a threshold."""
    (labels, said), (sequences, falls, config) = clips, footage
    hits, alarms = [], 0
    for video, (spans, event) in judged.items():
        joined = merge_windows(
            spans, event, threshold=threshold, merge_gap_s=config.inference.merge_gap_s
        )
        found = np.array([(i.start_s, i.stop_s) for i in joined]).reshape(-1, 2)
        alarms += len(found)
        truth = falls_within(falls, video, span_of(sequences[video]))
        hits += match_events(found, truth)[1].tolist()
    return {
        "threshold": threshold,
        "accuracy": float(((said >= threshold) == labels).mean()),
        "recall": float((said[labels > 0] >= threshold).mean()),
        "specificity": float((said[labels == 0] < threshold).mean()),
        "falls": len(hits),
        "falls_called_fights": int(sum(hits)),
        "alarms": alarms,
    }


def report_left_out(result):
    for name, own in result.items():
        print(
            f"movement stream, {name}: fight clips in {FOLDS} folds, {len(SEEDS)} seeds: AUC "
            f"{own['auc']:.3f}"
        )
        for key in ("usual", "same_recall"):
            at = own[key]
            print(
                f"  threshold {at['threshold']:.2f}: accuracy {at['accuracy']:.3f}, recall "
                f"{at['recall']:.3f}, specificity {at['specificity']:.3f}; "
                f"{at['falls_called_fights']} of {at['falls']} falls called fights, "
                f"{at['alarms']} alarms in that footage"
            )
