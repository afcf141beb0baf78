"""Measure predictions of falls: falls found, false alarms, curves, tables."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks._falls_data import BED_GROUP, FIGHTS
from benchmarks._falls_windows import Window, is_extra
from recognizer.action import bootstrap as resampling
from recognizer.action.events import VideoTimeline, alarm_rate_curve, event_scores
from recognizer.dataset.windows import Span
from recognizer.runs.event_curves import hours_text
from recognizer.runs.figures import save_figure
from recognizer.types import TimeArray

Timelines = Mapping[str, VideoTimeline]
Scores = dict[str, Any]  # JSON values
RESAMPLES = 2000
TARGET_RECALL, TARGET_PER_HOUR = 0.9, 3.0  # a half in ten minutes


@dataclass(frozen=True, eq=False)
class Footage:
    """All windows and the ground truth of their videos.

    Attributes:
        windows: of all videos.
        spans: start and stop of each video, seconds.
        falls: the falls in each video.
        group_of: the group of each video.
        rules: keywords of ``recognizer.action.events`` for alarms.

    """

    windows: Sequence[Window]
    spans: Mapping[str, Span]
    falls: Mapping[str, Sequence[Span]]
    group_of: Mapping[str, str]
    rules: Mapping[str, float]

    def of(self, probabilities: TimeArray, videos: Iterable[str]) -> dict[str, VideoTimeline]:
        """Return the timelines of some videos; ``probabilities`` (N,) are those of all windows."""
        result = {}
        for video in videos:
            mine = [i for i, w in enumerate(self.windows) if w.video == video]
            times = _table((self.windows[i].start_s, self.windows[i].stop_s) for i in mine)
            truth = _table(self.falls.get(video, []))
            result[video] = VideoTimeline(times, probabilities[mine], truth, self.spans[video])
        return result

    def real_videos(self) -> list[str]:
        """Return the videos of real falls and of normal footage."""
        return [video for video in sorted(self.spans) if not is_extra(video)]

    def threshold(self, probabilities: TimeArray) -> float:
        """Return the threshold that is best for the real falls and the normal footage."""
        timelines = self.of(probabilities, self.real_videos())
        return choose_threshold(list(timelines.values()), self.rules)


def _table(spans: Iterable[Span]) -> TimeArray:
    return np.array(list(spans), np.float64).reshape(-1, 2)


def choose_threshold(timelines: Sequence[VideoTimeline], rules: Mapping[str, float]) -> float:
    """Return the middle of the best thresholds: most falls found at the false alarms allowed."""
    values = np.unique(np.concatenate([f.probabilities for f in timelines]))
    values = values[values > 0.3]
    curve = alarm_rate_curve(timelines, values, **rules)
    allowed = [s for s in curve if (s.false_alarms_per_hour or 0.0) <= TARGET_PER_HOUR]
    if not allowed:
        return float(values[-1])
    best = max(s.found for s in allowed)
    lowest = min(s.threshold for s in allowed if s.found == best)
    below = values[values < lowest]
    return float((lowest + (below[-1] if len(below) else 0.0)) / 2)


def measure(data: Footage, probabilities: TimeArray) -> Scores:
    """Return the metrics of predictions (N,) for all windows, as JSON values.

    Events are those of real falls and normal footage; synthetic falls and fights stand apart.
    """
    timelines = data.of(probabilities, data.real_videos())
    values = np.unique(np.round(np.concatenate([[0.5], probabilities[probabilities > 0.02]]), 3))
    curve = [s.to_json() for s in alarm_rate_curve(list(timelines.values()), values, **data.rules)]
    held_out = _held_out(data, timelines)
    total = {
        k: sum(h[k] for h in held_out.values())
        for k in ("events", "found", "alarms", "false_alarms", "normal_hours")
    }
    staged = [f for v, f in timelines.items() if not v.startswith("NonFight/")]
    of_staged = [s.to_json() for s in alarm_rate_curve(staged, values, **data.rules)]
    return {
        "best_allowed_without_nonfight": _best(of_staged),
        **_of_windows(data, probabilities, lambda w: not is_extra(w.video), "window"),
        "best_allowed": _best(curve),
        "held_out": held_out,
        "held_out_total": total,
        "held_out_intervals": intervals(list(held_out.values())),
        **_extras(data, probabilities, held_out),
        "falls": _peaks(timelines),
        "loudest_normal_windows": _loudest(timelines),
        "curve": curve,
    }


def _held_out(data: Footage, timelines: Timelines) -> dict[str, Scores]:
    """Return the events of each group at a threshold chosen on the others."""
    groups = sorted({data.group_of[video] for video in timelines})
    of_group = {g: [timelines[v] for v in timelines if data.group_of[v] == g] for g in groups}
    held_out = {}
    for group in groups:
        others = [f for g in groups if g != group for f in of_group[g]]
        at = choose_threshold(others, data.rules)
        held_out[group] = event_scores(of_group[group], threshold=at, **data.rules).to_json()
    return held_out


def _of_windows(
    data: Footage, probabilities: TimeArray, chosen: Callable[[Window], bool], name: str
) -> dict[str, float]:
    known = [
        i
        for i, w in enumerate(data.windows)
        if w.label is not None and w.sample is not None and chosen(w)
    ]
    truth, value = [data.windows[i].label for i in known], probabilities[known]
    if len(set(truth)) < 2:
        return {}
    return {
        f"{name}_roc_auc": float(roc_auc_score(truth, value)),
        f"{name}_average_precision": float(average_precision_score(truth, value)),
    }


def _extras(data: Footage, probabilities: TimeArray, held_out: Mapping[str, Scores]) -> Scores:
    """Return the metrics of synthetic falls and of fights, at the real groups' thresholds."""
    beds = [v for v in sorted(data.spans) if data.group_of[v] == BED_GROUP]
    fights = data.of(probabilities, [v for v in sorted(data.spans) if v.startswith(FIGHTS)])
    result: Scores = {}
    for group in sorted(set(data.group_of.values())):

        def in_group(w: Window, group: str = group) -> bool:
            return data.group_of[w.video] == group and not w.video.startswith(FIGHTS)

        of_windows = _of_windows(data, probabilities, in_group, "x")
        result[f"auc_{group}"] = of_windows.get("x_roc_auc")
    if beds:
        timelines = list(data.of(probabilities, beds).values())
        at = float(np.median([h["threshold"] for h in held_out.values()]))
        result["bed"] = event_scores(timelines, threshold=at, **data.rules).to_json()
    if fights:
        alarmed = [
            bool((f.probabilities >= held_out[data.group_of[v]]["threshold"]).any())
            for v, f in fights.items()
        ]
        result["fights_alarmed"] = [sum(alarmed), len(alarmed)]
    return result


def _peaks(timelines: Timelines) -> list[Scores]:
    """Return each fall with the highest probability in it, the least likely first."""
    peaks: list[Scores] = []
    for video, timeline in timelines.items():
        for start, stop in timeline.truth:
            inside = (timeline.windows[:, 0] < stop) & (timeline.windows[:, 1] > start)
            peak = float(timeline.probabilities[inside].max(initial=0.0))
            peaks.append({"video": video, "start_s": start, "peak": peak})
    return sorted(peaks, key=lambda event: event["peak"])


def _loudest(timelines: Timelines) -> list[tuple[float, str, float, float]]:
    """Return the twenty windows outside of falls with the highest probabilities."""
    alarms = []
    for video, timeline in timelines.items():
        clear = np.ones(len(timeline.windows), np.bool_)
        for start, stop in timeline.truth:
            clear &= (timeline.windows[:, 1] <= start) | (timeline.windows[:, 0] >= stop)
        for i in np.flatnonzero(clear & (timeline.probabilities > 0)):
            alarms.append((float(timeline.probabilities[i]), video, *timeline.windows[i].tolist()))
    return sorted(alarms, reverse=True)[:20]


def intervals(held_out: Sequence[Scores]) -> Scores:
    """Return 95 % intervals of recall and of false alarms per 10 minutes over whole groups.

    A group is a person who falls. Resampling five of them gives intervals that are too narrow: the
    exact binomial one of all events is wider.
    """
    columns = ("found", "events", "false_alarms", "normal_hours")
    counts = np.array([[one[key] for key in columns] for one in held_out], np.float64)
    unit = np.arange(len(counts))
    draws = [weights @ counts for weights in resampling.weights(unit, RESAMPLES, 0)]
    if not draws:
        return {"groups": len(counts), "recall": None, "false_alarms_per_10_min": None}
    sums = np.concatenate(draws)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, rate = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3] / 6
    return {
        "groups": len(counts),
        "recall": resampling.interval(recall),
        "false_alarms_per_10_min": resampling.interval(rate),
    }


def _best(curve: Iterable[Scores]) -> Scores:
    allowed = [s for s in curve if s["false_alarms_per_hour"] <= TARGET_PER_HOUR]
    return max(allowed, key=lambda s: (s["found"], -s["false_alarms"], s["threshold"]), default={})


def draw(path: Path, root: Path, results: Mapping[str, Scores]) -> None:
    """Draw recall over false alarms, a line for each result."""

    def paint(figure: Any) -> None:
        axes = figure.add_subplot()
        for name, result in results.items():
            rate = [s["false_alarms_per_hour"] / 6 for s in result["curve"]]
            axes.step(rate, [s["recall"] for s in result["curve"]], where="post", label=name)
        axes.axvline(1.0, color="0.6", lw=0.8)
        axes.axhline(TARGET_RECALL, color="0.6", lw=0.8)
        hours = max(r["held_out_total"]["normal_hours"] for r in results.values())
        axes.set(
            xlabel=f"false alarms per 10 minutes, in {hours_text(hours)} of normal video",
            ylabel="falls found",
            ylim=(0, 1.02),
        )
        axes.set_xscale("symlog", linthresh=2)
        axes.set_xlim(left=0)
        axes.legend()

    save_figure(path, root, paint)


def print_table(results: Mapping[str, Scores]) -> None:
    """Print the metrics of all results."""
    for name, r in results.items():
        best, total = r["best_allowed"], r["held_out_total"]
        minutes = total["normal_hours"] * 60
        hours = hours_text(total["normal_hours"])
        print(
            f"{name}: {total['events']} falls, {hours} of normal video, {len(r['held_out'])} groups"
        )
        print(
            f"{name}: window ROC-AUC {r['window_roc_auc']:.3f}, AP "
            f"{r['window_average_precision']:.3f}"
        )
        if best:
            print(
                f"  best threshold in hindsight {best['threshold']:.3f}: {best['found']} of "
                f"{best['events']} falls, {best['false_alarms']} false alarms in "
                f"{minutes:.1f} min"
            )
        if calm := r["best_allowed_without_nonfight"]:
            minutes_calm = calm["normal_hours"] * 60
            print(
                f"  without NonFight, best in hindsight {calm['threshold']:.3f}: "
                f"{calm['found']} of {calm['events']} falls, "
                f"{calm['false_alarms']} false alarms in {minutes_calm:.1f} min"
            )
        print(
            f"  threshold from the other groups: {total['found']} of {total['events']} falls, "
            f"{total['false_alarms']} false alarms ({total['false_alarms'] / minutes * 10:.2f} "
            f"per 10 min); 95 % over groups {_ends(r['held_out_intervals'])}"
        )
        for group, h in r["held_out"].items():
            print(
                f"    {group:10} {h['found']} of {h['events']}, {h['false_alarms']} false alarms "
                f"in {h['normal_hours'] * 60:.1f} min at {h['threshold']:.3f}"
            )
        _print_extras(r)
        for needed in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
            s = [c for c in r["curve"] if c["recall"] >= needed - 1e-9]
            if s:
                least = min(s, key=lambda c: c["false_alarms"])
                print(
                    f"    recall >= {needed:.1f}: {least['false_alarms']} false alarms "
                    f"({least['false_alarms_per_hour'] / 6:.2f} per 10 min)"
                )


def _print_extras(r: Scores) -> None:
    if "bed" in r:
        bed = r["bed"]
        print(
            f"  {BED_GROUP}: window ROC-AUC {r['auc_Bed']:.3f}; {bed['found']} of "
            f"{bed['events']}, {bed['false_alarms']} false alarms at "
            f"{bed['threshold']:.3f}"
        )
    if "fights_alarmed" in r:
        print("  fight clips that alarm: {} of {}".format(*r["fights_alarmed"]))


def _ends(intervals: Scores) -> str:
    names = {"recall": "recall", "false_alarms_per_10_min": "false alarms per 10 min"}
    texts = [
        f"{text} {low:.2f} to {high:.2f}"
        for key, text in names.items()
        for low, high in [intervals[key] or (np.nan, np.nan)]
    ]
    return ", ".join(texts)


def write_curves(path: Path, results: Mapping[str, Scores]) -> None:
    """Write the curves of all results as one CSV table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        keys = (
            "threshold",
            "events",
            "found",
            "recall",
            "alarms",
            "false_alarms",
            "false_alarms_per_hour",
            "normal_hours",
        )
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("judged_by", *keys))
        writer.writerows((n, *(s[k] for k in keys)) for n, r in results.items() for s in r["curve"])
