"""The command line as data: which sections a mode reads, which short flags it takes, what to type.

``main.py`` makes its parser and ``--help`` of these tables; modes end by the command that comes
next, with what the user set and that command reads.
"""

import difflib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recognizer.installation import CALL, FILES, INSTALLED

if TYPE_CHECKING:
    from recognizer.config.schema import Config


EXIT_DONE, EXIT_SOME_REFUSED = 0, 3


@dataclass(frozen=True, slots=True)
class Flag:
    """A short flag: a config key of some modes, refused in all others.

    Attributes:
        name: such as ``--seeds``.
        about: for ``--help``.
        modes: mode -> the key that the flag sets there.
        options: for argparse.

    """

    name: str
    about: str
    modes: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)


def _several(metavar: str) -> dict[str, Any]:
    # Of a flag that is given twice, both count.
    return {"nargs": "+", "action": "extend", "metavar": metavar}


_TRAIN = (
    "train.fight",
    "train.falldown",
    "train.movement",
    "train.pose",
    "train.check",
    "train.ablation",
)
_SHARD = "annotation.shard"
_SHARDED = ("annotation.stage1", "annotation.stage2", "inference.analysis")
_DEMO = () if INSTALLED else ("demo",)  # a wheel is without the samples that it trains on
_TEST = ("test.fight", "test.falldown", "test.pose")
FLAGS = (
    Flag(
        "--train-config",
        "config of mmaction2 or, for pose networks, mmpose; several for "
        "train.ablation and test.crossval",
        {
            **dict.fromkeys((*_TRAIN, *_TEST), "train.config_file"),
            "test.crossval": "crossval.config_files",
        },
        _several("FILE"),
    ),
    Flag(
        "--cfg-options",
        "changes to that config, such as train_cfg.max_epochs=50",
        dict.fromkeys((*_TRAIN, *_TEST, "test.crossval", *_DEMO), "train.cfg_options"),
        _several("KEY=VALUE"),
    ),
    Flag(
        "--resume",
        "go on from the work_dir's last checkpoint (auto), or from the one named",
        dict.fromkeys(("train.fight", "train.falldown", "train.pose"), "train.resume"),
        {"nargs": "?", "const": True, "metavar": "auto|FILE"},
    ),
    Flag(
        "--iterations",
        "how many iterations to look at",
        {"train.check": "train.check_iterations"},
        {"type": int, "metavar": "N"},
    ),
    Flag(
        "--shard",
        "the part of the videos for this run, such as 3/16: the third of 16",
        dict.fromkeys(_SHARDED, _SHARD),
        {"metavar": "N/COUNT"},
    ),
    Flag(
        "--seeds",
        "the whole is done once per seed",
        {"train.ablation": "ablation.seeds", "test.crossval": "crossval.seeds"},
        {**_several("SEED"), "type": int},
    ),
    Flag(
        "--checkpoint",
        "trained weights; several: their probabilities are averaged",
        {
            **dict.fromkeys(_TEST, "test.checkpoint"),
            **dict.fromkeys(
                ("deploy.export", "deploy.verify", "deploy.benchmark"), "deploy.checkpoint"
            ),
        },
        _several("FILE"),
    ),
    Flag(
        "--source",
        "a published checkpoint",
        {"convert.sdpose": "convert.source"},
        {"metavar": "FILE"},
    ),
    Flag(
        "--out",
        "the file to write",
        {"convert.sdpose": "convert.out", "deploy.export": "deploy.output"},
        {"metavar": "FILE"},
    ),
)

_POSES = ("annotation", "models")
_TRACKS = (*_POSES, "tracking", "scoring")
_SAMPLES = (*_TRACKS, "dataset")
_FRAMES = ("annotation.input", "annotation.output_dir")
# Typed once, it goes along through modes that draw nothing to those that could show faces.
_PRIVACY = ("visualize.skeleton_only",)
# mode -> the sections and keys that it reads itself.
READS: dict[str, tuple[str, ...]] = {
    "annotation.pipeline": (*_SAMPLES, *_PRIVACY),
    "annotation.stage1": (*_POSES, "tracking.track_high_thresh", "tracking.new_track_thresh"),
    "annotation.stage2": ("annotation", "tracking", "scoring"),
    "annotation.stage3": ("annotation", "dataset", *_PRIVACY),
    "annotation.visualize": ("annotation", "visualize", "dataset.service"),
    "annotation.from_reviews": (
        *("annotation.dataset", "annotation.output_dir", "annotation.movement"),
        *("live.alerts.store", "live.clips_dir", "live.look_ahead_s"),
        *("models", "tracking", "scoring"),
        *("dataset.service", "dataset.classes", "dataset.min_frames"),
    ),
    "annotation.distill": (*_POSES, "distill", "dataset.split"),
    "train.fight": ("train",),
    "train.falldown": ("train",),
    "train.movement": (
        "train",
        "crossval.config_files",
        "crossval.inner_folds",
        "dataset.service",
        "annotation.workers",
        "annotation.worker_memory_gb",
    ),
    "train.pose": ("train",),
    "train.check": ("train",),
    "train.ablation": ("ablation", "train"),
    "test.fight": ("test", "train", *_PRIVACY),
    "test.falldown": ("test", "train", *_PRIVACY),
    "test.pose": ("test", "train"),
    "test.crossval": (
        "crossval",
        "train",
        "test.bootstrap",
        "test.worst",
        "dataset.service",
        "annotation.workers",
        "annotation.worker_memory_gb",
        *_PRIVACY,
    ),
    "inference.analysis": (
        "inference",
        *_TRACKS,
        "dataset.min_frames",
        "visualize.crf",
        *_PRIVACY,
    ),
    "inference.realtime": (
        "live",
        "models",
        "tracking",
        "scoring",
        "dataset.min_frames",
        "inference.services",
        "inference.fight",
        "inference.falldown",
        "inference.views",
    ),
    "models.fetch": ("models.weights_dirs", "models.fetch", "models.mirror"),
    "deploy.export": ("deploy", "models", "dataset"),
    "deploy.tensorrt": ("deploy.model", "models", "inference"),
    "deploy.verify": ("deploy", "models", "inference", *_FRAMES),
    "deploy.benchmark": ("deploy", "models", *_FRAMES),
    "convert.sdpose": ("convert",),
    "demo": (
        *_TRACKS,
        "train.seed",
        "train.cfg_options",
        "test.bootstrap",
        "test.worst",
        "visualize.crf",
    ),
    "doctor": (*_POSES, "tracking", "inference"),
}
# mode -> the sections by which it finds what an earlier mode left.
FINDS: dict[str, tuple[str, ...]] = {
    "annotation.stage2": ("models",),
    "annotation.stage3": ("models", "tracking", "scoring"),
    "annotation.visualize": ("models", "tracking", "scoring"),
    **dict.fromkeys(
        (
            "train.fight",
            "train.falldown",
            "train.movement",
            "test.fight",
            "test.falldown",
            "test.crossval",
        ),
        _SAMPLES,
    ),
}


# mode -> its input and what to put there, where the default has nothing yet.
_INPUT = {
    "inference.analysis": ("inference", "<video or folder>"),
    **dict.fromkeys(
        ("annotation.pipeline", "annotation.stage1"),
        ("annotation", "<folder with one sub-folder per class>"),
    ),
    "annotation.distill": ("annotation", "<folder of videos>"),
}


def mode_hint(word: str, modes: Collection[str]) -> str:
    """Return how a mode is named, for a word typed without ``--mode``; "" if it is like none."""
    close = difflib.get_close_matches(word, modes, n=1, cutoff=0.6)
    return f"; modes are named by --mode: {CALL} --mode {close[0]}" if close else ""


def unknown_hint(word: str, modes: Collection[str]) -> str:
    """Return what may be meant by a word that no flag takes; "" if it is a flag itself.

    Args:
        word: the first one that is not known.
        modes: that may be meant; none where a mode was given.

    """
    if modes:
        return mode_hint(word, modes)
    if word.startswith("-"):
        return ""
    return "; put a value with blanks in quotes: --set 'annotation.input=/data/my videos'"


def next_command(
    config: "Config",
    mode: str,
    changes: Mapping[str, object] | None = None,
    without: Collection[str] = (),
) -> str:
    """Return the command that runs a mode with what the user set and that mode reads.

    ``visualize.skeleton_only`` goes along in any case, so that later modes hide faces too.

    Args:
        config: the config of this run; it knows what was typed.
        mode: what comes next.
        changes: keys to set besides; a value is a path, text, number, or a list of these.
        without: keys that are left out though the user set them.

    """
    words = [*_program(), "--mode", mode]
    given, changes = config.given, changes or {}
    if given.config is not None:
        words += ["--config", str(given.config)]
    kept = {}
    for text in given.overrides:
        key, _, value = text.partition("=")
        if _is_read(key.strip(), mode) and key.strip() not in {*changes, *without}:
            kept[key.strip()] = value.strip()
    for key, text in kept.items():
        named = _flag_of(key, mode)
        words += ["--set", f"{key}={text}"] if named is None else _flag_words(named, _parsed(text))
    section, hint = _INPUT.get(mode, ("", ""))
    key = f"{section}.input"
    if section and key not in {**kept, **changes} and _is_missing(getattr(config, section).input):
        changes = {key: hint, **changes}
    for key, change in changes.items():
        named = _flag_of(key, mode)
        shown = f"{key}={_text(change)}"
        words += ["--set", shown] if named is None else _flag_words(named, change)
    return shlex.join(words)


def _is_missing(place: Path | str) -> bool:
    """Tell whether there is no such file or folder; object storage is not asked."""
    return isinstance(place, Path) and not place.exists()


def _is_read(key: str, mode: str) -> bool:
    if key == _SHARD:
        return mode in _SHARDED
    sections = (*READS[mode], *FINDS.get(mode, ()), *_PRIVACY)
    return any(f"{key}.".startswith(f"{s}.") or f"{s}.".startswith(f"{key}.") for s in sections)


def _flag_of(key: str, mode: str) -> str | None:
    return next((flag.name for flag in FLAGS if flag.modes.get(mode) == key), None)


def _flag_words(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [name] if value else []
    return [name, *map(str, value if isinstance(value, list) else [value])]


def _parsed(text: str) -> object:
    """Return the value of a flag, from JSON or the text after --set."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value: object) -> str:
    plain = not isinstance(value, list | dict | bool)
    return str(value) if plain else json.dumps(value, default=str, ensure_ascii=False)


def _program() -> Sequence[str]:
    """Return how the program is called from the shell's folder."""
    if INSTALLED:
        return ("recognizer",)
    running = sys.executable or "python"
    named = next((name for name in ("python", "python3") if shutil.which(name) == running), None)
    return named or _from_here(Path(running)), _from_here(FILES / "main.py")


def _from_here(path: Path) -> str:
    here = Path(os.path.realpath(Path.cwd()))
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
