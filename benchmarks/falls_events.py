"""Measure how many real falls are found at how many false alarms, one group left out at a time.

    python benchmarks/falls_events.py --out OUT

works in OUT (output/falls_events): it lays out the footage of ../shared/assets (see
``_falls_data.py``), runs stages 1 and 2 on it and cuts it into windows as stage 3 and the
analysis do. For every group (a person who falls, with a share of the normal footage; the synthetic
falls out of beds) it trains on the other groups and asks about every window of this one: the
network on poses, averaged over seeds, the movement stream, and both fused (``_falls_streams.py``).
``--learn`` says what is learnt from beside the real falls: bed, fights, bed+fights, base; several
are measured beside each other. What counts is events: windows at or above the threshold that touch
are one alarm, an alarm that overlaps a fall finds it, any other is false. Reported are the curve
over all thresholds, and what comes of a threshold that is chosen, for each group, on the other
groups' windows. Beside it, in the same run: a logistic regression on the five measures of
``recognizer.scoring.falldown``, the least that a network has to beat.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _falls_report as falls_report
from benchmarks import _falls_streams as falls_streams
from benchmarks._command import ASSETS, ROOT, add_config
from benchmarks._falls_data import lay_out
from benchmarks._falls_streams import Learning, Poses, Task
from benchmarks._falls_windows import CLASSES, Window, cut, load, read_falls, read_groups
from benchmarks._needs import need
from recognizer.dataset.mmaction import write_split
from recognizer.runs.progress import on_console
from recognizer.runs.stage1 import run_stage1
from recognizer.storage.artifacts import atomic_path
from recognizer.training.classifier.crossval_fold import FoldJob, read_result, run_fold
from recognizer.types import TimeArray

NETWORK = ROOT / "configs" / "skeleton" / "stgcnpp" / "falldown_body.py"


def predict_by_measures(task: Task) -> TimeArray:
    """Return the probability of a fall in each window, of a logistic regression on measures."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.array([w.measures for w in task.windows])
    probabilities = np.zeros(len(x))
    for group in task.names():
        train, test = task.train(task.without(group)), task.test(group)
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        model.fit(x[train], task.labels[train])
        probabilities[test] = model.predict_proba(x[test])[:, 1]
    return probabilities


def predict_by_streams(
    task: Task, args: argparse.Namespace, data: falls_report.Footage
) -> tuple[dict[str, TimeArray], dict[str, dict[str, str]]]:
    """Return name -> the probability of a fall in each window, the mean over seeds beside each."""
    ways: dict[str, dict[str, TimeArray]] = {}
    chosen = {}
    for seed in args.seeds:
        poses = None
        if not args.movement_only:
            jobs = falls_streams.pose_jobs(
                task, (args.network, args.cfg_options), args.out / "folds", seed
            )
            train_missing(task, jobs)
            poses = Poses(task, jobs)
        probabilities, chosen[f"seed {seed}"] = falls_streams.predict(task, seed, poses)
        if poses and seed == args.seeds[0]:
            threshold = data.threshold(probabilities["fused"])
            write_movement_stream(args.out / task.learning.name, task, seed, poses, threshold)
        for stream, values in probabilities.items():
            ways.setdefault(stream, {})[f"seed {seed}"] = values
    result: dict[str, TimeArray] = {}
    for stream, of_seed in ways.items():
        result |= {f"{stream}, {seed}": values for seed, values in of_seed.items()}
        if len(of_seed) > 1:
            result[stream] = np.mean(list(of_seed.values()), axis=0)
    return result, chosen


def train_missing(task: Task, jobs: Mapping[falls_streams.Groups, FoldJob]) -> None:
    """Run the trainings that are not finished, one after the other."""
    samples = {w.sample.name: w.sample for w in task.windows if w.sample is not None}
    for job in jobs.values():
        if read_result(job) is None:
            run_fold(job, samples)


def write_everything(out: Path, task: Task) -> None:
    """Write the samples of all groups to learn from: the shipped model's train.pkl."""
    samples = (falls_streams.sample_of(task, i) for i in task.train(()))
    write_split(out / task.learning.name / "train.pkl", out, samples)


def write_movement_stream(
    folder: Path, task: Task, seed: int, poses: Poses, threshold: float
) -> None:
    """Write the movement stream of all groups, which deploy.export joins to a network.

    The threshold is the one that would have been best for groups that were left out.
    """
    from recognizer.action.measures import measure_names
    from recognizer.action.movement_graph import write_movement
    from recognizer.action.movement_metadata import MovementMetadata

    model, choice, fusion = falls_streams.fit_all(task, seed, poses)
    training = {
        "setting": choice.setting,
        "log_loss": dict(choice.log_loss),
        "learning": task.learning.name,
        "groups": task.names(),
        "seed": seed,
        "threshold": threshold,
    }
    metadata = MovementMetadata(measure_names("falldown"), fusion, training)
    with atomic_path(folder / "movement.onnx", folder) as scratch:
        write_movement(scratch, model, metadata, "falldown", tuple(CLASSES))


def counts_of(windows: Sequence[Window]) -> dict[str, int]:
    """Return how many windows there are of each kind."""
    return {
        "windows": len(windows),
        "nobody": sum(w.sample is None for w in windows),
        "not measured": sum(w.sample is not None and w.movement is None for w in windows),
        "normal": sum(w.label == 0 and w.sample is not None for w in windows),
        "fall": sum(w.label == 1 and w.sample is not None for w in windows),
    }


def learning_of(text: str) -> Learning:
    """Read a word of ``--learn``."""
    words = set(text.split("+")) - {"base"}
    if words - {"bed", "fights"}:
        raise argparse.ArgumentTypeError(f"expected bed, fights, bed+fights or base, got {text!r}")
    return Learning("bed" in words, "fights" in words)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "falls_events")
    parser.add_argument("--assets", type=Path, default=ASSETS)
    add_config(parser)
    parser.add_argument("--network", type=Path, default=NETWORK, help="mmaction2's config")
    parser.add_argument("--cfg-options", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--learn", type=learning_of, nargs="+", default=[Learning()])
    parser.add_argument("--movement-only", action="store_true", help="train no network")
    parser.add_argument("--name", default="report")
    parser.add_argument("--few", action="store_true", help="a small part of the footage")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    need(files=[args.assets])
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    lay_out(args.assets, ROOT / "samples" / "falls_segments.csv", args.out, few=args.few)
    config = load(args)
    run_stage1(config, on_console)
    windows, spans = cut(config)
    group_of = read_groups(args.out)
    rules = {"merge_gap_s": config.inference.merge_gap_s}
    data = falls_report.Footage(windows, spans, read_falls(args.out, windows), group_of, rules)
    results: dict[str, falls_report.Scores] = {}
    settings = {}
    for learning in args.learn:
        task = Task(windows, group_of, learning)
        by_streams, settings[learning.name] = predict_by_streams(task, args, data)
        predictions = {"measures": predict_by_measures(task), **by_streams}
        results |= {
            f"{learning.name}: {n}": falls_report.measure(data, p) for n, p in predictions.items()
        }
        write_everything(args.out, task)
    counts = counts_of(windows)
    print(counts)
    falls_report.print_table(results)
    text = json.dumps({"counts": counts, "settings": settings, **results}, indent=1)
    (args.out / f"{args.name}.json").write_text(text, "utf-8")
    falls_report.write_curves(args.out / f"{args.name}.csv", results)
    falls_report.draw(args.out / f"{args.name}.png", args.out, results)


if __name__ == "__main__":
    main()
