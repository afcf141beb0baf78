"""The command line: modes, exit codes, messages without a traceback, a light start."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

import main
from recognizer.config_file import load_config
from tests.annotation import clips

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments):
    command = [sys.executable, str(ROOT / "main.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_list_modes_names_every_mode_and_costs_next_to_nothing():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = run("--list-modes")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert out.returncode == 0
    for mode in main.MODES:
        assert mode in out.stdout
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu_s < 0.3


@pytest.mark.parametrize("mode", sorted(main.MODES))
def test_every_mode_has_its_function(mode):
    import importlib

    module, function, _ = main.MODES[mode]
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "--mode or --list-modes"),
        (["--mode", "annotation.stage9"], 2, "invalid choice"),
        (["--mode", "doctor", "--config", "no.yaml"], 1, "no.yaml"),
        (["--mode", "doctor", "--set", "tracking.match_tresh=1"], 2, "did you mean 'match_thresh'"),
        (["--mode", "doctor", "--set", "tracking"], 2, "expected key.path=value"),
        (["--mode", "doctor", "--iterations", "0"], 2, "check_iterations: expected at least 1"),
        (["--mode", "annotation.stage1", "--set", "annotation.input=/nowhere"], 1, "/nowhere"),
        (["--mode", "annotation.stage2", "--set", "annotation.stage1_dir=/nowhere"], 1, "/nowhere"),
        (["--mode", "annotation.stage3", "--set", "annotation.stage2_dir=/nowhere"], 1, "/nowhere"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else None,
)
def test_mistakes_end_with_a_message_and_an_exit_code(arguments, code, says):
    out = run(*arguments)
    assert out.returncode == code
    assert says in out.stderr
    assert "Traceback" not in out.stderr


def test_of_a_flag_that_is_given_twice_both_count():
    arguments = main._arguments(["--mode", "doctor", "--seeds", "0", "1", "--seeds", "2"])
    assert arguments.overrides == ["ablation.seeds=[0, 1, 2]"]


def test_the_pipeline_from_video_to_pickles_and_an_overlay(tmp_path):
    config = clips.make_dataset(tmp_path, clips=5)
    out = run("--mode", "annotation.pipeline", "--config", config)
    assert out.returncode == 0, out.stderr
    (folder,) = (tmp_path / "out/dots/stage3_dataset").iterdir()
    assert {p.name for p in folder.glob("*.pkl")} == {"train.pkl", "val.pkl", "test.pkl"}
    assert (folder / "metadata.json").is_file()
    assert len(list((folder / "report").glob("*.png"))) >= 5
    out = run("--mode", "annotation.visualize", "--config", config, "--set", "visualize.limit=1")
    assert out.returncode == 0, out.stderr
    assert len(list((tmp_path / "out/dots/visualize").rglob("*.mp4"))) == 1


def test_a_video_without_a_label_shows_in_the_exit_code(tmp_path):
    config = clips.make_dataset(tmp_path, clips=4)
    clips.write_clip(tmp_path / "data/fihgt/x.mp4", 3)
    out = run("--mode", "annotation.pipeline", "--config", config)
    assert out.returncode == 3, out.stderr
    assert "did you mean 'Fight'" in out.stderr


def test_a_stage_1_start_imports_no_torch_and_no_mm():
    code = (
        "import sys; import annotation.stage1, recognizer.pose.estimator, onnxruntime\n"
        "heavy = {'torch', 'mmengine', 'mmpose', 'mmaction', 'mmcv', 'matplotlib', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.strip() == "[]"


def test_the_shipped_config_loads():
    assert load_config(ROOT / "configs" / "config.yaml").annotation.workers == "auto"
