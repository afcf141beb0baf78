"""Count how many falls are also called fights, and how many fight clips alarm as falls.

    python -m benchmarks.cross_confusion
    python -m benchmarks.cross_confusion --falls <stage-2 folder> --events falls.csv \
        --fights <stage-2 folder>

Both classifiers are asked about both kinds of footage, window by window as in inference.analysis,
each at its file's own threshold. Without folders the poses in samples/ are tracked; those are what
the shipped classifiers learnt from, so other footage says more. ``--events`` is a table
video,start_s,stop_s,class of the falls; in ``--fights`` a folder named Fight or NonFight is the
class.
"""

import argparse
import csv
import json
import sys
from pathlib import Path, PurePosixPath

import numpy as np

from analysis.services import MODELS, window_plan
from analysis.windows import judge_windows
from annotation.clips import span_of
from annotation.event_curves import hours_text, rate_text
from annotation.progress import on_console
from annotation.stage2 import run_stage2
from annotation.workspace import read_manifest, result_path
from recognizer.action.classifier import Classifier
from recognizer.action.events import Footage, event_scores, match_events, merge_windows
from recognizer.artifacts import read_poses
from recognizer.config_action import ClassifierSection
from recognizer.config_file import load_config

ROOT = Path(__file__).resolve().parents[1]
SERVICES = ("fight", "falldown")
FALL = "Falldown"


def tracked_samples(name, args):
    """Track the poses of samples/<name> and return stage 2's folder."""
    overrides = [
        f"annotation.stage1_dir={ROOT / 'samples' / name}", f"annotation.dataset={name}",
        f"annotation.output_dir={args.out}",
    ]  # fmt: skip
    return run_stage2(load_config(args.config, overrides), on_console)


def ask(folder, classifiers, config, few):
    """Return, for each video, its span and the alarms (A, 2) of each service."""
    videos = [o.video for o in read_manifest(folder).outcomes if o.state != "refused"]
    found = {}
    for video in videos[:: max(1, len(videos) // few)] if few else videos:
        sequence, _, _ = read_poses(result_path(folder, video, ".npz"))
        alarms = {}
        for service, classifier in classifiers.items():
            plan = window_plan(config, service, classifier)
            windows = judge_windows(sequence, classifier, plan, config.scoring)
            spans = [(w.start_s, w.stop_s) for w in windows]
            event = [1 - w.probabilities.get(classifier.classes[0], np.nan) for w in windows]
            joined = merge_windows(
                spans, event, threshold=classifier.threshold,
                merge_gap_s=config.inference.merge_gap_s,
            )  # fmt: skip
            alarms[service] = np.array([(i.start_s, i.stop_s) for i in joined]).reshape(-1, 2)
        found[video] = span_of(sequence), alarms
    return found


def read_falls(table):
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["class"] == FALL]
    falls = {}
    for row in rows:
        falls.setdefault(row["video"], []).append((float(row["start_s"]), float(row["stop_s"])))
    return falls


def on_falls(found, falls):
    """Return what both services say of the falls, and of the rest of that footage."""
    hits = {service: [] for service in SERVICES}
    scores = {}
    for service in SERVICES:
        films = []
        for video, (span, alarms) in found.items():
            truth = np.array(falls.get(video, []), np.float64).reshape(-1, 2)
            truth = np.clip(truth, *span)
            truth = truth[truth[:, 1] > truth[:, 0]]
            hits[service] += match_events(alarms[service], truth)[1].tolist()
            films.append(Footage(alarms[service], np.ones(len(alarms[service])), truth, span))
        scores[service] = event_scores(films, threshold=0.5).to_json()
    both = np.logical_and(hits["fight"], hits["falldown"])
    return {
        "videos": len(found), "falls": len(both), "called_falls": int(sum(hits["falldown"])),
        "called_fights": int(sum(hits["fight"])), "called_both": int(both.sum()),
        "hours": sum(stop - start for (start, stop), _ in found.values()) / 3600,
        "normal": scores,
    }  # fmt: skip


def on_clips(found):
    """Return how many clips of each class each service alarms in, and the hours of them."""
    result = {}
    for name in ("Fight", "NonFight"):
        mine = [own for video, own in found.items() if name in PurePosixPath(video).parts[:-1]]
        result[name] = {
            "clips": len(mine),
            "hours": sum(stop - start for (start, stop), _ in mine) / 3600,
            **{s: sum(len(alarms[s]) > 0 for _, alarms in mine) for s in SERVICES},
            "alarms": {s: sum(len(alarms[s]) for _, alarms in mine) for s in SERVICES},
        }
    return result


def report(result):
    falls = result["falls"]
    print(f"falls: {falls['falls']} in {falls['videos']} videos, {hours_text(falls['hours'])}: "
          f"{falls['called_falls']} called falls, {falls['called_fights']} called fights, "
          f"{falls['called_both']} both")  # fmt: skip
    for service, scores in falls["normal"].items():
        rate = rate_text(scores["false_alarms"], scores["normal_hours"])
        print(f"  {service} alarms beside the falls: {scores['false_alarms']}; {rate}")
    for name, own in result["clips"].items():
        print(f"{name} clips: {own['clips']}, {hours_text(own['hours'])}: {own['fight']} alarm as "
              f"fights, {own['falldown']} as falls "
              f"({own['falldown'] / max(own['clips'], 1):.1%})")  # fmt: skip


def main():
    parser = argparse.ArgumentParser("cross_confusion", description=__doc__.splitlines()[0])
    parser.add_argument("--falls", type=Path, help="stage-2 folder of footage with falls")
    parser.add_argument("--events", type=Path, default=ROOT / "samples" / "falls_segments.csv")
    parser.add_argument("--fights", type=Path, help="stage-2 folder of Fight and NonFight clips")
    parser.add_argument("--fight-model", type=Path, default=MODELS / "fight.onnx")
    parser.add_argument("--fall-model", type=Path, default=MODELS / "falldown.onnx")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "config.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "cross_confusion")
    parser.add_argument("--few", type=int, default=0, help="so many videos of each kind")
    args = parser.parse_args()
    args.out = args.out.resolve()
    config = load_config(args.config)
    paths = dict(zip(SERVICES, (args.fight_model, args.fall_model), strict=True))
    classifiers = {s: Classifier(path, ClassifierSection()) for s, path in paths.items()}
    falls = ask(args.falls or tracked_samples("falls_stage1", args), classifiers, config, args.few)
    clips = ask(args.fights or tracked_samples("stage1", args), classifiers, config, args.few)
    result = {
        "models": {service: path.name for service, path in paths.items()},
        "thresholds": {s: c.threshold for s, c in classifiers.items()},
        "falls": on_falls(falls, read_falls(args.events)), "clips": on_clips(clips),
    }  # fmt: skip
    report(result)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "report.json").write_text(json.dumps(result, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
