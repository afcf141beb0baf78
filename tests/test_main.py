"""The command line: modes, exit codes, messages without a traceback, a light start."""

import importlib.metadata
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import main
import recognizer
from recognizer.command import FINDS, FLAGS, READS
from recognizer.config.file import known_keys, load_config, parse_yaml
from recognizer.config.schema import Config
from recognizer.installation import ONNX_RUNTIMES
from tests.annotation import clips
from tests.conftest import draw_small

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


def test_the_version_is_one_line_with_those_of_python_and_what_runs_networks():
    out = run("--version")
    assert (out.returncode, out.stderr) == (0, "")
    assert out.stdout.count("\n") == 1
    assert out.stdout.startswith(f"recognizer {recognizer.__version__}, Python 3.11.")
    installed = [name for name in (*ONNX_RUNTIMES, "torch") if has_distribution(name)]
    assert all(f", {name} {importlib.metadata.version(name)}" in out.stdout for name in installed)
    assert out.stdout.count(",") == 1 + len(installed)


def has_distribution(name):
    return any(importlib.metadata.distributions(name=name))


def test_control_characters_of_a_file_name_do_not_reach_the_terminal(tmp_path):
    name = "a\x1b[31m\nb\u0085.mp4"
    root = tmp_path / name
    out = run("--mode", "annotation.stage1", "--set", f"annotation.input={json.dumps(str(root))}")
    assert out.returncode == 1
    assert "\x1b" not in out.stderr
    assert "\u0085" not in out.stderr


@pytest.mark.parametrize("arguments", ["--help", "--mode train.fight --help", "--list-modes"])
def test_a_text_ends_quietly_where_its_reader_has_gone(arguments):
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does after its lines
    command = [sys.executable, str(ROOT / "main.py"), *arguments.split()]
    try:
        out = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=120
        )
    finally:
        os.close(writer)
    assert (out.returncode, out.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_text_that_cannot_be_written_is_one_line(tmp_path):
    with Path("/dev/full").open("w") as full:
        out = subprocess.run(
            [sys.executable, str(ROOT / "main.py"), "--list-modes"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=120,
        )
    assert out.returncode == 1
    assert out.stderr == "stdout cannot be written: No space left on device\n"


def test_closed_standard_streams_are_no_fault_and_no_file_takes_their_place(tmp_path):
    config = clips.make_dataset(tmp_path, clips=1)
    script = 'exec "$@" <&- >&- 2>&-'
    command = ["sh", "-c", script, "sh", sys.executable, str(ROOT / "main.py")]
    command += ["--mode", "annotation.stage1", "--config", str(config)]
    assert subprocess.run(command, check=False, timeout=120).returncode == 0
    (manifest,) = (tmp_path / "out").rglob("manifest.json")
    assert json.loads(manifest.read_bytes())["totals"]["done"] == 2


@pytest.mark.parametrize("mode", sorted(main.MODES))
def test_every_mode_has_its_function(mode):
    import importlib

    module, function, _ = main.MODES[mode]
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "--mode or --list-modes"),
        (["--mode", "annotation.stage9"], 2, "did you mean annotation.stage"),
        (["--mode", "train"], 2, "there is no such mode"),
        (["demo"], 2, "modes are named by --mode: main.py --mode demo"),
        (["annotation.stage1", "--debug"], 2, "main.py --mode annotation.stage1"),
        (["anotation.stage1"], 2, "main.py --mode annotation.stage1"),
        (["--verbose"], 2, "unrecognized arguments: --verbose"),
        (["--mode", "doctor", "--iter", "3"], 2, "unrecognized arguments: --iter"),
        (
            ["--mode", "doctor", "--set", "annotation.input=우리", "회사 CCTV"],
            2,
            "unrecognized arguments: 회사 CCTV; put a value with blanks in quotes",
        ),
        (["--mode", "doctor", "--config", "no.yaml"], 1, "no.yaml"),
        (["--mode", "doctor", "--set", "tracking.match_tresh=1"], 2, "did you mean 'match_thresh'"),
        (["--mode", "doctor", "--set", "tracking"], 2, "expected key.path=value"),
        (
            ["--mode", "train.check", "--iterations", "0"],
            2,
            "check_iterations: expected at least 1",
        ),
        (["--mode", "annotation.stage1", "--set", "annotation.input=/nowhere"], 1, "/nowhere"),
        (["--mode", "annotation.stage2", "--set", "annotation.stage1_dir=/nowhere"], 1, "/nowhere"),
        (["--mode", "annotation.stage3", "--set", "annotation.stage2_dir=/nowhere"], 1, "/nowhere"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, list) else None,
)
def test_mistakes_end_with_a_message_and_an_exit_code(arguments, code, says, capsys):
    try:
        got = main.main(arguments)
    except SystemExit as end:  # of argparse
        got = end.code
    error = capsys.readouterr().err
    assert got == code
    assert says in error
    assert "Traceback" not in error


def test_a_mistake_is_the_exit_code_of_the_process():
    out = run("--mode", "annotation.stage1", "--set", "annotation.input=/nowhere")
    assert out.returncode == 1
    assert "/nowhere" in out.stderr
    assert "Traceback" not in out.stderr


@pytest.mark.parametrize(
    ("arguments", "override"),
    [
        ("train.ablation --seeds 0 1 --seeds 2", "ablation.seeds=[0, 1, 2]"),
        ("test.crossval --seeds 9", "crossval.seeds=[9]"),
        ("test.crossval --train-config a.py b.py", 'crossval.config_files=["a.py", "b.py"]'),
        ("train.fight --train-config a.py", 'train.config_file=["a.py"]'),
        ("test.fight --checkpoint a.pth", 'test.checkpoint=["a.pth"]'),
        ("deploy.export --checkpoint a.pth b.pth", 'deploy.checkpoint=["a.pth", "b.pth"]'),
        ("deploy.export --out a.onnx", 'deploy.output="a.onnx"'),
        ("convert.sdpose --out a.pth", 'convert.out="a.pth"'),
        ("train.pose --resume", "train.resume=true"),
        ("train.check --iterations 0", "train.check_iterations=0"),
    ],
)
def test_a_short_flag_sets_the_key_that_its_mode_reads(arguments, override):
    assert main._arguments(["--mode", *arguments.split()]).overrides == [override]


@pytest.mark.parametrize("mode", sorted(main.MODES))
def test_a_short_flag_is_refused_by_all_other_modes(mode, capsys):
    for flag in FLAGS:
        if mode in flag.modes:
            continue
        value = [] if flag.options.get("action") == "store_true" else ["1"]
        with pytest.raises(SystemExit) as caught:
            main._arguments(["--mode", mode, flag.name, *value])
        assert caught.value.code == 2
        output = capsys.readouterr().err
        assert f"{flag.name}: --mode {mode} does not take it" in output
        assert all(one in output for one in flag.modes)


def test_flags_and_sections_are_those_of_modes_and_keys_that_exist():
    keys = set(known_keys())
    assert set(READS) == set(main.MODES)
    assert set(FINDS) <= set(main.MODES)
    assert {mode for flag in FLAGS for mode in flag.modes} <= set(main.MODES)
    assert {key for flag in FLAGS for key in flag.modes.values()} <= keys
    assert {key for named in (*READS.values(), *FINDS.values()) for key in named} <= keys
    for flag in FLAGS:  # what a flag sets is among what its mode reads, and so in its --help
        for mode, key in flag.modes.items():
            assert any(f"{key}.".startswith(f"{one}.") for one in READS[mode]), (mode, key)


def test_help_says_what_each_mode_and_flag_is():
    out = run("--help")
    assert out.returncode == 0
    for mode, (_, _, about) in main.MODES.items():
        assert f"{mode} " in out.stdout
        assert about in out.stdout
    for flag in FLAGS:
        assert f"  {flag.name}" in out.stdout


@pytest.mark.parametrize("mode", sorted(main.MODES))
def test_help_of_a_mode_shows_its_flags_and_every_key_that_it_reads(mode, capsys):
    assert main.main(["--mode", mode, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"--mode {mode}: {main.MODES[mode][2]}" in text
    for flag in FLAGS:
        assert (f"  {flag.name}" in text) == (mode in flag.modes)
    start = text.index("config.yaml):") + len("config.yaml):")
    shown = parse_yaml(text[start:], Path("help"))
    lines = {".".join(map(str, key)) for key in shown.lines}
    expected = {
        key for key in known_keys() if any(f"{key}.".startswith(f"{one}.") for one in READS[mode])
    }
    assert expected <= lines
    Config.model_validate(shown.data, context={"folder": ROOT / "configs"})  # it can be pasted


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


@pytest.mark.usefixtures("forked_workers")
def test_a_video_without_a_label_shows_in_the_exit_code(tmp_path, monkeypatch, capsys, caplog):
    draw_small(monkeypatch)
    config = clips.make_dataset(tmp_path, clips=4)
    clips.write_clip(tmp_path / "data/fihgt/x.mp4", 3)
    code = main.main(["--mode", "annotation.pipeline", "--config", str(config)])
    output = caplog.text + capsys.readouterr().err
    assert code == 3, output
    assert "did you mean 'Fight'" in output


def test_a_stage_1_start_imports_no_torch_and_no_mm():
    code = (
        "import sys; import recognizer.runs.stage1, recognizer.pose.estimator, onnxruntime\n"
        "heavy = {'torch', 'mmengine', 'mmpose', 'mmaction', 'mmcv', 'matplotlib', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.strip() == "[]"


def test_the_shipped_config_loads():
    assert load_config(ROOT / "configs" / "config.yaml").annotation.workers == "auto"
