"""Count how many falls are also called fights, and how many fight clips alarm as falls.

    python -m benchmarks.cross_confusion
    python -m benchmarks.cross_confusion --falls <stage-2 folder> --events falls.csv \
        --fights <stage-2 folder>
    python -m benchmarks.cross_confusion --fight-model Subject_1=a.onnx --fight-model ...
    python -m benchmarks.cross_confusion --falls <stage-2 folder> --leave-out <stage-3 folder>

Both classifiers are asked about both kinds of footage, window by window as in inference.analysis,
each at its file's own threshold. Without folders the poses in samples/ are tracked: clips that the
shipped classifiers learnt from, so other footage says more. ``--events`` is a table
video,start_s,stop_s,class of the falls; in ``--fights`` a folder named Fight or NonFight is the
class.

A classifier that learnt from falls (``dataset.negatives``) is to be asked about others:
``--fight-model GROUP=FILE``, once for each group (first folder) of the falls, names the classifier
that left it out. ``--leave-out`` needs no such files: the movement stream alone is learnt from the
stage 3 of fights, with its negatives of all other groups and without any, and asked about each
group; beside it stand the same two learnings in 5 folds of the fight clips.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np

from benchmarks._command import CONFIG, ROOT, Parser, one_line_errors, positive
from benchmarks._left_out import SETTING, falls_within, group_of, leave_out, report_left_out
from benchmarks._tracks import tracked_samples, tracked_videos
from recognizer.action.classifier import Classifier
from recognizer.action.events import VideoTimeline, event_scores, match_events, merge_windows
from recognizer.action.movement_model import SETTINGS
from recognizer.action.windows import classify_windows
from recognizer.analysis.services import window_plan
from recognizer.config.action import ClassifierConfig
from recognizer.config.file import ConfigError, load_config
from recognizer.config.schema import Config
from recognizer.dataset.labels import read_segments
from recognizer.dataset.windows import Span, span_of
from recognizer.installation import SHIPPED_MODELS
from recognizer.runs.event_curves import hours_text, rate_text
from recognizer.runs.manifest import read_manifest, result_path
from recognizer.storage.artifacts import read_poses
from recognizer.types import PoseSequence, TimeArray

SERVICES = ("fight", "falldown")
NORMAL, FALL = "Normal", "Falldown"
KINDS = ("Fight", "NonFight")

# video, its tracks -> windows, the probability of an event in each, and the threshold
Predictor = Callable[[str, PoseSequence], tuple[list[Span], list[float], float]]
Alarms = dict[str, tuple[Span, dict[str, TimeArray]]]  # video -> span, alarms (A, 2) by service
Metrics = dict[str, Any]  # JSON values
Value = TypeVar("Value")


def find_alarms(
    folder: Path, videos: Iterable[str], predictors: Mapping[str, Predictor], config: Config
) -> Alarms:
    """Return the span and each service's alarms of each video of a stage 2."""
    found: Alarms = {}
    for video in videos:
        sequence, _, _ = read_poses(result_path(folder, video, ".npz"))
        alarms = {}
        for service, predict in predictors.items():
            spans, event, threshold = predict(video, sequence)
            joined = merge_windows(
                spans, event, threshold=threshold, merge_gap_s=config.inference.merge_gap_s
            )
            alarms[service] = np.array([(i.start_s, i.stop_s) for i in joined]).reshape(-1, 2)
        found[video] = span_of(sequence), alarms
    return found


def classifier_of(classifiers: Mapping[str, Classifier], config: Config) -> Predictor:
    """Return the predictor of a service, by the classifier of a video's group or the only one."""
    plans = {group: window_plan(config, model) for group, model in classifiers.items()}

    def predict(video: str, sequence: PoseSequence) -> tuple[list[Span], list[float], float]:
        group = "" if "" in classifiers else group_of(video)
        classifier = classifiers[group]
        windows = list(classify_windows([sequence], classifier, plans[group], config.scoring))
        spans = [(w.start_s, w.stop_s) for w in windows]
        event = [1 - w.probabilities.get(classifier.classes[0], np.nan) for w in windows]
        return spans, event, classifier.threshold

    return predict


def read_events(table: Path, folder: Path) -> dict[str, list[Span]]:
    """Return the falls (start, stop), seconds, of the videos of a stage 2.

    Raises:
        ConfigError: no such table, one without falls, or a row that cannot be used, as that of a
            video which the folder does not have.

    """
    videos = [outcome.video for outcome in read_manifest(folder).outcomes]
    events = read_segments(table, [FALL], videos, not_ours=[NORMAL])
    if not events:
        raise ConfigError(f"{table}: expected events of the class {FALL}, found none")
    return {video: [(s.start_s, s.stop_s) for s in falls] for video, falls in events.items()}


def on_falls(found: Alarms, falls: Mapping[str, Sequence[Span]]) -> Metrics:
    """Return the metrics of both services on the falls and on the rest of that footage."""
    hits: dict[str, list[bool]] = {service: [] for service in SERVICES}
    scores = {}
    for service in SERVICES:
        timelines = []
        for video, (span, alarms) in found.items():
            truth = falls_within(falls, video, span)
            hits[service] += match_events(alarms[service], truth)[1].tolist()
            spans = alarms[service]
            timelines.append(VideoTimeline(spans, np.ones(len(spans)), truth, span))
        scores[service] = event_scores(timelines, threshold=0.5).to_json()
    both = np.logical_and(hits["fight"], hits["falldown"])
    return {
        "videos": len(found),
        "falls": len(both),
        "called_falls": int(sum(hits["falldown"])),
        "called_fights": int(sum(hits["fight"])),
        "called_both": int(both.sum()),
        "hours": sum(stop - start for (start, stop), _ in found.values()) / 3600,
        "normal": scores,
    }


def on_clips(found: Alarms) -> Metrics:
    """Return how many clips of each class each service alarms in, and the hours of them."""
    result: Metrics = {}
    for name in KINDS:
        clips = [clip for video, clip in found.items() if name in PurePosixPath(video).parts[:-1]]
        result[name] = {
            "clips": len(clips),
            "hours": sum(stop - start for (start, stop), _ in clips) / 3600,
            **{s: sum(len(alarms[s]) > 0 for _, alarms in clips) for s in SERVICES},
            "alarms": {s: sum(len(alarms[s]) for _, alarms in clips) for s in SERVICES},
        }
    return result


def report(result: Metrics) -> None:
    """Print the metrics of ``confusion``."""
    falls = result["falls"]
    print(
        f"falls: {falls['falls']} in {falls['videos']} videos, {hours_text(falls['hours'])}: "
        f"{falls['called_falls']} called falls, {falls['called_fights']} called fights, "
        f"{falls['called_both']} both"
    )
    for service, scores in falls["normal"].items():
        rate = rate_text(scores["false_alarms"], scores["normal_hours"])
        print(f"  {service} alarms beside the falls: {scores['false_alarms']}; {rate}")
    for name, clips in result.get("clips", {}).items():
        print(
            f"{name} clips: {clips['clips']}, {hours_text(clips['hours'])}: {clips['fight']} alarm "
            f"as fights, {clips['falldown']} as falls "
            f"({clips['falldown'] / max(clips['clips'], 1):.1%})"
        )


def group_files(texts: Iterable[str]) -> dict[str, str]:
    """Return the file of each group of ``--fight-model``, '' where one is for all."""
    files: dict[str, str] = {}
    for text in texts:
        group, file = ("", text) if Path(text).is_file() else text.rpartition("=")[::2]
        if group in files:
            raise ConfigError(
                f"--fight-model: expected one file for {group or 'all groups'}, got "
                f"{files[group]} and {file}"
            )
        files[group] = file
    return files


def read_models(service: str, files: Mapping[str, str | Path]) -> dict[str, Classifier]:
    """Return the classifier of each group's file.

    Raises:
        ConfigError: the classifier of another service.
        ModelError: a file that is no classifier.

    """
    models = {}
    for group, file in files.items():
        models[group] = Classifier(Path(file), ClassifierConfig())
        if models[group].service != service:
            raise ConfigError(
                f"expected a classifier for {service}, {file} is one for {models[group].service}"
            )
    return models


def check_groups(groups: Iterable[str], videos: Iterable[str]) -> None:
    """Refuse classifiers that are not one for all videos or one for each group of them."""
    expected = sorted(set(map(group_of, videos)))
    if sorted(groups) not in ([""], expected):
        raise ConfigError(
            "--fight-model: expected one FILE, or GROUP=FILE for each group of the falls "
            f"({', '.join(expected)}), got {', '.join(g or 'one for all' for g in sorted(groups))}"
        )


def by_group(values: dict[str, Value]) -> Value | dict[str, Value]:
    """Return the value of each group, or the only one."""
    return values[""] if set(values) == {""} else values


def thinned(videos: list[str], few: int | None) -> list[str]:
    """Return about ``few`` of the videos, all of them without it."""
    return videos[:: max(1, len(videos) // few)] if few else videos


def fight_clips(args: argparse.Namespace) -> tuple[Path, list[str]]:
    """Return the stage-2 folder of ``--fights``, of samples/ without it, and its videos."""
    folder = args.fights or tracked_samples("stage1", args.config, args.out)
    videos = tracked_videos(folder)
    if not any(set(KINDS) & set(PurePosixPath(video).parts[:-1]) for video in videos):
        raise ConfigError(
            f"--fights: expected videos in folders named {' or '.join(KINDS)} in {folder}, found "
            f"none, but {videos[0]}"
        )
    return folder, thinned(videos, args.few)


def confusion(args: argparse.Namespace, config: Config) -> Metrics:
    """Return the metrics of both classifiers on both kinds of footage."""
    models = {
        "fight": read_models(
            "fight", group_files(args.fight_model or [str(SHIPPED_MODELS / "fight.onnx")])
        ),
        "falldown": read_models("falldown", {"": args.fall_model}),
    }
    predictors = {service: classifier_of(files, config) for service, files in models.items()}
    tracks, videos, falls = fall_videos(args)
    check_groups(models["fight"], videos)
    # Of several classifiers of fights, which would be asked about a clip?
    clips = fight_clips(args) if "" in models["fight"] else None
    result: Metrics = {
        "models": {
            s: by_group({g: c.path.name for g, c in own.items()}) for s, own in models.items()
        },
        "thresholds": {
            s: by_group({g: c.threshold for g, c in own.items()}) for s, own in models.items()
        },
        "falls": on_falls(
            find_alarms(tracks, thinned(videos, args.few), predictors, config), falls
        ),
    }
    if clips:
        result["clips"] = on_clips(find_alarms(*clips, predictors, config))
    return result


def fall_videos(args: argparse.Namespace) -> tuple[Path, list[str], dict[str, list[Span]]]:
    """Return the stage-2 folder of ``--falls``, of samples/ without it, its videos and falls."""
    folder = args.falls or tracked_samples("falls_stage1", args.config, args.out)
    return folder, tracked_videos(folder), read_events(args.events, folder)


def arguments() -> argparse.Namespace:
    parser = Parser("cross_confusion", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--falls", type=Path, help="stage-2 folder of footage with falls")
    parser.add_argument("--events", type=Path, default=ROOT / "samples" / "falls_segments.csv")
    parser.add_argument("--fights", type=Path, help="stage-2 folder of Fight and NonFight clips")
    parser.add_argument("--fight-model", action="append", help="FILE, or GROUP=FILE for each group")
    parser.add_argument("--fall-model", type=Path, default=SHIPPED_MODELS / "falldown.onnx")
    parser.add_argument("--leave-out", type=Path, help="stage-3 folder of fights with negatives")
    parser.add_argument("--setting", choices=SETTINGS, default=SETTING, help="of --leave-out")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "cross_confusion")
    parser.add_argument("--few", type=positive, help="so many videos of each kind")
    args = parser.parse_args()
    args.out = args.out.resolve()
    refuse_unused(args, parser.get_default)
    return args


def refuse_unused(args: argparse.Namespace, default_of: Callable[[str], Any]) -> None:
    """Refuse an argument that has no effect beside the others."""
    unused = {"without --leave-out": ["setting"]}
    if args.leave_out:
        unused = {"with --leave-out": ["few", "fights", "fight_model", "fall_model"]}
    elif "" not in group_files(args.fight_model or [""]):
        unused["with --fight-model GROUP=FILE"] = ["fights"]
    for when, names in unused.items():
        for name in names:
            if getattr(args, name) != default_of(name):
                raise ConfigError(f"--{name.replace('_', '-')}: has no effect {when}; leave it out")


@one_line_errors
def main() -> int:
    args = arguments()
    config = load_config(args.config)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.leave_out:
        tracks, videos, falls = fall_videos(args)
        sequences = {v: read_poses(result_path(tracks, v, ".npz"))[0] for v in videos}
        result = leave_out(args.leave_out, sequences, falls, config, args.setting)
        report_left_out(result)
    else:
        result = confusion(args, config)
        report(result)
    name = "left_out.json" if args.leave_out else "report.json"
    (args.out / name).write_text(json.dumps(result, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
