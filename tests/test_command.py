"""The command that comes next: with what was typed and the next mode reads, and nothing else."""

import contextlib
import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import main
from recognizer.command import FINDS, READS, next_command
from recognizer.config.file import ConfigError, load_config
from recognizer.config.schema import Config, Given
from recognizer.runs.progress import silent

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "configs" / "config.yaml"


def words(config, mode, changes=None):
    """Return the command after ``python main.py --mode``, as a shell would split it."""
    _, script, flag, *rest = shlex.split(next_command(config, mode, changes))
    assert (Path(script).name, flag) == ("main.py", "--mode")
    return rest


@pytest.mark.parametrize(
    ("overrides", "mode", "expected"),
    [
        ([], "annotation.stage2", []),
        (["annotation.workers=2"], "annotation.stage2", "annotation.workers=2"),
        (["train.seed=3"], "annotation.stage2", None),
        (["annotation.include=[a b/*]"], "annotation.stage2", "annotation.include=[a b/*]"),
        (["tracking={match_thresh: 0.7}"], "annotation.stage2", "tracking={match_thresh: 0.7}"),
        (["annotation.workers=2", "annotation.workers=3"], "demo", "annotation.workers=3"),
        (["dataset.split.seed=3"], "train.fight", "dataset.split.seed=3"),
        (["annotation.dataset='no'"], "annotation.stage2", "annotation.dataset='no'"),
        (["visualize.crf=3"], "annotation.stage3", None),
        *[
            (["visualize.skeleton_only=true"], mode, "visualize.skeleton_only=true")
            for mode in (
                "annotation.stage2",
                "annotation.stage3",
                "annotation.visualize",
                "train.fight",
                "test.fight",
                "test.falldown",
                "test.crossval",
            )
        ],
        (["visualize={skeleton_only: true}"], "test.fight", "visualize={skeleton_only: true}"),
    ],
)
def test_what_was_typed_and_is_read_is_kept(overrides, mode, expected):
    assert words(load_config(SHIPPED, overrides), mode) == [
        mode,
        *(["--set", expected] if expected else []),
    ]


def test_a_config_of_ones_own_is_named_the_shipped_one_is_not(tmp_path):
    own = tmp_path / "my settings.yaml"
    own.write_text("")
    assert words(load_config(own), "doctor") == ["doctor", "--config", str(own)]
    assert load_config(SHIPPED).given == Given()
    assert words(Config(), "doctor") == ["doctor"]


def test_changes_win_over_what_was_typed_and_use_short_flags(tmp_path):
    config = load_config(SHIPPED, ["train.dataset_dir=/a", 'train.config_file=["a.py"]'])
    changes = {"train.dataset_dir": Path("/b c"), "test.checkpoint": [Path("/x.pth")]}
    assert words(config, "test.fight", changes) == [
        "test.fight",
        "--train-config",
        "a.py",
        "--set",
        "train.dataset_dir=/b c",
        "--checkpoint",
        "/x.pth",
    ]


def test_changes_keep_letters_of_any_script_and_come_to_the_same_config():
    changes = {"dataset.also": ["/내 영상/fight-1"]}
    _, *words_ = words(Config(), "annotation.stage3", changes)
    assert words_ == ["--set", 'dataset.also=["/내 영상/fight-1"]']
    assert load_config(SHIPPED, [words_[1]]).dataset.also == [Path("/내 영상/fight-1")]


def test_what_was_typed_goes_along_with_a_changed_config():
    config = load_config(SHIPPED, ["annotation.workers=2"])
    changed = config.model_copy(update={"annotation": config.annotation})
    assert words(changed, "annotation.stage2")[-1] == "annotation.workers=2"


@pytest.mark.parametrize(
    "typed",
    [
        "train.fight --train-config a.py b.py --cfg-options x=1 'y=[1, 2]' --resume",
        "deploy.export --checkpoint a.pth --out o.onnx --set deploy.precision=fp32",
        "test.crossval --seeds 1 2 --set 'dataset.classes={A: 0, B: 1}' --set annotation.input=a#b",
        "annotation.stage1 --set annotation.include= --set 'annotation.input=it is'",
    ],
)
def test_the_command_for_the_same_mode_comes_to_the_same_config(typed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    first = main._arguments(["--mode", *shlex.split(typed)])
    if "include=" in typed:
        first.overrides[0] = "annotation.include=[]"
    config = load_config(first.config, first.overrides)
    again = main._arguments(["--mode", *words(config, first.mode)])
    came = load_config(again.config, again.overrides)
    assert came.model_dump() == config.model_dump()


@pytest.mark.parametrize(
    ("mode", "section"), [("inference.analysis", "inference"), ("annotation.stage1", "annotation")]
)
def test_an_input_that_is_not_there_yet_is_asked_for(tmp_path, mode, section):
    own = tmp_path / "own.yaml"
    own.write_text(f"{section}: {{input: nowhere}}")
    assert words(load_config(own), mode)[-1].startswith(f"{section}.input=<")
    own.write_text(f"{section}: {{input: .}}")
    assert words(load_config(own), mode) == [mode, "--config", str(own)]


@pytest.mark.parametrize("mode", ["doctor", "models.fetch", "convert.sdpose"])
def test_a_mode_reads_the_sections_that_the_table_says(mode, monkeypatch, tmp_path):
    config = load_config(SHIPPED, [f"annotation.output_dir={tmp_path}"])
    read, real = set(), Config.__getattribute__

    def record(self, name):
        if name in Config.model_fields:
            read.add(name)
        return real(self, name)

    monkeypatch.setattr(Config, "__getattribute__", record)
    module, function, _ = main.MODES[mode]
    with contextlib.suppress(ConfigError):  # convert.source is not named
        getattr(importlib.import_module(module), function)(config, silent)
    known = {key.partition(".")[0] for key in (*READS[mode], *FINDS.get(mode, ()))}
    assert read, "nothing was heard"
    assert read <= known


_SIGNALS_IN_SIGNALS = """
import signal, sys, threading
from recognizer.signals import heed_signals
def trace(frame, event, arg):
    if frame.f_code is threading.Event.set.__code__ and event == "line":
        signal.raise_signal(signal.SIGTERM)
    return trace

stop = heed_signals()
sys.settrace(trace)
signal.raise_signal(signal.SIGINT)
sys.settrace(None)
print(stop.is_set())
"""


def test_a_signal_that_comes_while_another_is_handled_does_not_lock():
    command = [sys.executable, "-c", _SIGNALS_IN_SIGNALS]
    out = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=120)
    assert out.stdout == b"True\n"
