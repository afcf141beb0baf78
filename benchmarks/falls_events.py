"""Measure how many real falls are found at how many false alarms, one subject left out at a time.

    python benchmarks/falls_events.py --out OUT

works in OUT (output/falls_events): it lays out the footage of ../shared/assets (see
``_falls_data.py``), runs stages 1 and 2 on it and cuts it into windows as stage 3 and the
analysis do. For every group (a person who falls, with a share of the normal footage) it trains
each config on the other groups and asks it about every window of this one; the configs'
probabilities are averaged. What counts is events: windows at or above the threshold that touch
are one alarm, an alarm that overlaps a fall finds it, any other is false. Reported are the curve
over all thresholds, and what comes of a threshold that is chosen, for each group, on the other
groups' windows. Beside it, in the same run: a logistic regression on the five measures of
``recognizer.scoring.falldown``, the least that a network has to beat.
"""

import argparse
import csv
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from annotation.clips import clip_name, people_of, span_of  # noqa: E402
from annotation.event_curves import hours_text  # noqa: E402
from annotation.labels import label_of_window, read_segments  # noqa: E402
from annotation.progress import on_console  # noqa: E402
from annotation.report import save_figure  # noqa: E402
from annotation.sources import read_sources  # noqa: E402
from annotation.stage1 import run_stage1  # noqa: E402
from annotation.stage2 import run_stage2  # noqa: E402
from annotation.workspace import read_manifest, result_path  # noqa: E402
from benchmarks._falls_data import lay_out  # noqa: E402
from benchmarks._needs import need  # noqa: E402
from recognizer.action import bootstrap as resampling  # noqa: E402
from recognizer.action.events import Footage, alarm_rate_curve, event_scores  # noqa: E402
from recognizer.artifacts import read_poses  # noqa: E402
from recognizer.config_file import load_config  # noqa: E402
from recognizer.dataset.mmaction import write_split  # noqa: E402
from recognizer.dataset.samples import NobodyTrackedError, build_sample  # noqa: E402
from recognizer.dataset.windows import plan_windows, slice_sequence  # noqa: E402
from recognizer.types import Sample  # noqa: E402

CLASSES = {"Normal": 0, "Falldown": 1}
NETWORK = ROOT / "configs" / "skeleton" / "stgcnpp" / "falldown_body.py"
RESAMPLES = 2000
WANTED_RECALL, WANTED_PER_HOUR = 0.9, 6.0  # one in ten minutes


@dataclass(frozen=True, eq=False)
class Window:
    """A part of a video: the sample to judge (None: nobody), what it shows (None: unsure)."""

    video: str
    start_s: float
    stop_s: float
    label: int | None
    sample: Sample | None
    measures: np.ndarray


def load(args):
    out = args.out.resolve()
    overrides = [
        f"annotation.input={out / 'videos'}", f"annotation.output_dir={out / 'output'}",
        "annotation.dataset=falls", "dataset.service=falldown", f"dataset.classes={CLASSES}",
        f"dataset.segments={out / 'segments.csv'}", f"dataset.split.sources={out / 'sources.csv'}",
        "dataset.split.by=source", "dataset.window_s=2.0", "dataset.stride_s=0.5",
        "dataset.num_person=2", *args.set,
    ]  # fmt: skip
    return load_config(args.config, overrides)


def cut(config):
    """Return all windows, and the span of each video, seconds."""
    folder, section = run_stage2(config, on_console), config.dataset
    videos = [o.video for o in read_manifest(folder).outcomes if o.state != "refused"]
    labels = read_segments(section.segments, section.classes, videos)
    windows, spans = [], {}
    for video in videos:
        sequence, _, _ = read_poses(result_path(folder, video, ".npz"))
        spans[video] = span_of(sequence)
        for start, stop in plan_windows(sequence, section.window_s, section.stride_s):
            name = label_of_window(labels.get(video, ()), start, stop)
            label = None if name is None else section.classes[name]
            sample, measures = _sample(config, sequence, video, (start, stop), label)
            windows.append(Window(video, start, stop, label, sample, measures))
    return windows, spans


def _sample(config, sequence, video, span, label):
    section = config.dataset
    part = slice_sequence(sequence, *span)
    name = clip_name(video, *span, whole=False)
    try:
        ids, ranked = people_of(part, section.service, config.scoring, section.num_person)
    except NobodyTrackedError:
        return None, np.zeros(5, np.float32)
    if len(part) < section.min_frames:
        return None, np.zeros(5, np.float32)
    return build_sample(part, ids, section.num_person, name, label or 0), ranked.measures[0]


def judge_by_measures(windows, train, test):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x = np.array([w.measures for w in windows])
    y = np.array([-1 if w.label is None else w.label for w in windows])
    scale = StandardScaler().fit(x[train])
    model = LogisticRegression(class_weight="balanced").fit(scale.transform(x[train]), y[train])
    return model.predict_proba(scale.transform(x[test]))[:, 1]


def judge_by_network(config_file, options, folder, seed):
    """Return what trains a config on some windows and judges others; done once, then kept."""
    from training.fold_job import FoldJob, job_key, read_result, run_fold

    text = config_file.read_text(encoding="utf-8")

    def judge(windows, train, test):
        samples = {w.sample.name: w.sample for w in windows if w.sample is not None}
        names = [tuple(windows[i].sample.name for i in part) for part in (train, test)]
        group = f"{config_file.stem}/seed{seed}/{folder.name}"
        digest = [(n, samples[n].label, float(samples[n].keypoints.sum())) for n in sorted(samples)]
        job = FoldJob(
            group, config_file, tuple(options), seed, folder / config_file.stem / f"seed{seed}",
            job_key({"config": text, "options": options, "seed": seed, "data": digest}, *names),
            *names, {},
        )  # fmt: skip
        if read_result(job) is None:
            run_fold(job, samples)
        return read_result(job)[:, 1]

    return judge


def to_learn(windows):
    """Tell which windows are learnt from: of what is normal every other one.

    Neighbours share three quarters of their frames. The shipped model learns from as many normal
    ones for each fall as those that are measured: its threshold is theirs.
    """
    falls = CLASSES["Falldown"]
    return np.array(
        [
            w.sample is not None and w.label is not None and (w.label == falls or i % 2 == 0)
            for i, w in enumerate(windows)
        ]
    )


def leave_one_out(windows, group_of, judge_of):
    """Return the probability of a fall in each window, from a model without its group."""
    groups = np.array([group_of[w.video] for w in windows])
    there = np.array([w.sample is not None for w in windows])
    learnt = to_learn(windows)
    said = np.zeros(len(windows))  # nobody is there: nobody falls
    for group in sorted(set(groups)):
        train = np.flatnonzero(learnt & (groups != group))
        test = np.flatnonzero(there & (groups == group))
        said[test] = judge_of(group)(windows, train, test)
    return said


def footage(windows, spans, falls, said, videos):
    result = {}
    for video in videos:
        mine = [i for i, w in enumerate(windows) if w.video == video]
        times = np.array([(windows[i].start_s, windows[i].stop_s) for i in mine]).reshape(-1, 2)
        truth = np.array(falls.get(video, []), np.float64).reshape(-1, 2)
        result[video] = Footage(times, said[mine], truth, spans[video])
    return result


def choose_threshold(footages, rules):
    """Return the middle of the best thresholds: most falls found at the false alarms allowed."""
    values = np.unique(np.concatenate([f.probabilities for f in footages]))
    values = values[values > 0.3]
    curve = alarm_rate_curve(footages, values, **rules)
    allowed = [s for s in curve if s.false_alarms_per_hour <= WANTED_PER_HOUR]
    if not allowed:
        return float(values[-1])
    best = max(s.found for s in allowed)
    lowest = min(s.threshold for s in allowed if s.found == best)
    below = values[values < lowest]
    return float((lowest + (below[-1] if len(below) else 0.0)) / 2)


def measure(windows, spans, falls, group_of, said, rules):
    """Return the figures of one way of judging, as JSON values."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    groups = sorted(set(group_of.values()))
    films = footage(windows, spans, falls, said, sorted(spans))
    of_group = {g: [films[v] for v in films if group_of[v] == g] for g in groups}
    values = np.unique(np.round(np.concatenate([[0.5], said[said > 0.02]]), 3))
    curve = [s.to_json() for s in alarm_rate_curve(list(films.values()), values, **rules)]
    held_out = {}
    for group in groups:
        others = [f for g in groups if g != group for f in of_group[g]]
        at = choose_threshold(others, rules)
        held_out[group] = event_scores(of_group[group], threshold=at, **rules).to_json()
    total = {k: sum(h[k] for h in held_out.values())
             for k in ("events", "found", "alarms", "false_alarms", "normal_hours")}  # fmt: skip
    known = [i for i, w in enumerate(windows) if w.label is not None and w.sample is not None]
    truth, value = [windows[i].label for i in known], said[known]
    per_event = []
    for video, film in films.items():
        for start, stop in film.truth:
            inside = (film.windows[:, 0] < stop) & (film.windows[:, 1] > start)
            peak = float(film.probabilities[inside].max(initial=0.0))
            per_event.append({"video": video, "start_s": start, "peak": peak})
    alarms = []
    for video, film in films.items():
        clear = np.ones(len(film.windows), np.bool_)
        for start, stop in film.truth:
            clear &= (film.windows[:, 1] <= start) | (film.windows[:, 0] >= stop)
        for i in np.flatnonzero(clear & (film.probabilities > 0)):
            alarms.append((float(film.probabilities[i]), video, *film.windows[i].tolist()))
    staged = [f for v, f in films.items() if not v.startswith("NonFight/")]
    of_staged = [s.to_json() for s in alarm_rate_curve(staged, values, **rules)]
    return {
        "best_allowed_without_nonfight": _best(of_staged),
        "window_roc_auc": float(roc_auc_score(truth, value)),
        "window_average_precision": float(average_precision_score(truth, value)),
        "best_allowed": _best(curve), "held_out": held_out, "held_out_total": total,
        "held_out_intervals": intervals(list(held_out.values())),
        "falls": sorted(per_event, key=lambda e: e["peak"]),
        "loudest_normal_windows": sorted(alarms, reverse=True)[:20], "curve": curve,
    }  # fmt: skip


def intervals(held_out):
    """Return 95 % intervals of recall and of false alarms per 10 minutes over whole groups.

    A group is a person who falls; few of them make a wide interval, and that is what is known.
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
        "groups": len(counts), "recall": resampling.interval(recall),
        "false_alarms_per_10_min": resampling.interval(rate),
    }  # fmt: skip


def _best(curve):
    allowed = [s for s in curve if s["false_alarms_per_hour"] <= WANTED_PER_HOUR]
    return max(allowed, key=lambda s: (s["found"], -s["false_alarms"], s["threshold"]), default={})


def write_everything(out, windows):
    """Write what all groups together have to learn from: the shipped model's train.pkl."""
    chosen = np.flatnonzero(to_learn(windows))
    write_split(out / "everything" / "train.pkl", out, (windows[i].sample for i in chosen))


def draw(path, root, results):
    def paint(figure):
        axes = figure.add_subplot()
        for name, result in results.items():
            rate = [s["false_alarms_per_hour"] / 6 for s in result["curve"]]
            axes.step(rate, [s["recall"] for s in result["curve"]], where="post", label=name)
        axes.axvline(1.0, color="0.6", lw=0.8)
        axes.axhline(WANTED_RECALL, color="0.6", lw=0.8)
        hours = max(r["held_out_total"]["normal_hours"] for r in results.values())
        axes.set(xlabel=f"false alarms per 10 minutes, in {hours_text(hours)} of normal video",
                 ylabel="falls found", ylim=(0, 1.02))  # fmt: skip
        axes.set_xscale("symlog", linthresh=2)
        axes.set_xlim(left=0)
        axes.legend()

    save_figure(path, root, paint)


def table(results):
    for name, r in results.items():
        best, total = r["best_allowed"], r["held_out_total"]
        minutes = total["normal_hours"] * 60
        hours = hours_text(total["normal_hours"])
        print(f"{name}: {total['events']} falls, {hours} of normal video, {len(r['held_out'])} "
              "groups")  # fmt: skip
        print(f"{name}: window ROC-AUC {r['window_roc_auc']:.3f}, AP "
              f"{r['window_average_precision']:.3f}")  # fmt: skip
        if best:
            print(f"  best threshold in hindsight {best['threshold']:.3f}: {best['found']} of "
                  f"{best['events']} falls, {best['false_alarms']} false alarms in "
                  f"{minutes:.1f} min")  # fmt: skip
        if calm := r["best_allowed_without_nonfight"]:
            minutes_calm = calm["normal_hours"] * 60
            print(f"  without NonFight, best in hindsight {calm['threshold']:.3f}: "
                  f"{calm['found']} of {calm['events']} falls, "
                  f"{calm['false_alarms']} false alarms in {minutes_calm:.1f} min")  # fmt: skip
        print(f"  threshold from the other groups: {total['found']} of {total['events']} falls, "
              f"{total['false_alarms']} false alarms ({total['false_alarms'] / minutes * 10:.2f} "
              f"per 10 min); 95 % over groups {_ends(r['held_out_intervals'])}")  # fmt: skip
        for group, h in r["held_out"].items():
            print(f"    {group:10} {h['found']} of {h['events']}, {h['false_alarms']} false alarms "
                  f"in {h['normal_hours'] * 60:.1f} min at {h['threshold']:.3f}")  # fmt: skip
        for needed in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
            s = [c for c in r["curve"] if c["recall"] >= needed - 1e-9]
            if s:
                least = min(s, key=lambda c: c["false_alarms"])
                print(f"    recall >= {needed:.1f}: {least['false_alarms']} false alarms "
                      f"({least['false_alarms_per_hour'] / 6:.2f} per 10 min)")  # fmt: skip


def _ends(found):
    names = {"recall": "recall", "false_alarms_per_10_min": "false alarms per 10 min"}
    texts = [f"{text} {low:.2f} to {high:.2f}" for key, text in names.items()
             for low, high in [found[key] or (np.nan, np.nan)]]  # fmt: skip
    return ", ".join(texts)


def write_curves(path, results):
    """Write the curves of all ways of judging as one CSV table."""
    with path.open("w", encoding="utf-8", newline="") as file:
        keys = ("threshold", "events", "found", "recall", "alarms", "false_alarms",
                "false_alarms_per_hour", "normal_hours")  # fmt: skip
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("judged_by", *keys))
        writer.writerows((n, *(s[k] for k in keys)) for n, r in results.items() for s in r["curve"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "falls_events")
    parser.add_argument("--assets", type=Path, default=ROOT.parent / "shared" / "assets")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "config.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--configs", type=Path, nargs="*", default=[NETWORK], help="mmaction2's")
    parser.add_argument("--cfg-options", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--name", default="report")
    parser.add_argument("--few", action="store_true", help="a small part of the footage")
    args = parser.parse_args()
    need(files=[args.assets])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    lay_out(args.assets, ROOT / "samples" / "falls_segments.csv", args.out, few=args.few)
    config = load(args)
    run_stage1(config, on_console)
    windows, spans = cut(config)
    group_of = read_sources(args.out / "sources.csv", {})
    falls = {}
    with (args.out / "events.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            span = float(row["start_s"]), float(row["stop_s"])
            falls.setdefault(row["video"], []).append(span)
    rules = {"merge_gap_s": config.inference.merge_gap_s}
    ways = {"measures": leave_one_out(windows, group_of, lambda g: judge_by_measures)}
    sums = []
    for path in args.configs:
        said = [
            leave_one_out(
                windows, group_of,
                lambda g, p=path, s=seed: judge_by_network(
                    p.resolve(), args.cfg_options, args.out / "folds" / g, s),
            )
            for seed in args.seeds
        ]  # fmt: skip
        ways |= {f"{path.stem} seed {s}": v for s, v in zip(args.seeds, said, strict=True)}
        sums.append(np.mean(said, axis=0))
    if sums and len(args.configs) * len(args.seeds) > 1:
        ways["all networks"] = np.mean(sums, axis=0)
    write_everything(args.out, windows)
    results = {
        name: measure(windows, spans, falls, group_of, said, rules) for name, said in ways.items()
    }
    counts = {"windows": len(windows), "nobody": sum(w.sample is None for w in windows),
              "normal": sum(w.label == 0 and w.sample is not None for w in windows),
              "fall": sum(w.label == 1 and w.sample is not None for w in windows)}  # fmt: skip
    print(counts)
    table(results)
    report = args.out / f"{args.name}.json"
    report.write_text(json.dumps({"counts": counts, **results}, indent=1), "utf-8")
    write_curves(args.out / f"{args.name}.csv", results)
    draw(args.out / f"{args.name}.png", args.out, results)


if __name__ == "__main__":
    main()
