"""What the config refuses: every message names file, line and key, for a person."""

import math
import re
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from recognizer.config.file import ConfigError, load_config
from recognizer.config.models import OnnxPoseConfig
from recognizer.config.schema import Config, TrackingConfig


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param(
            "tracking:\n  match_tresh: 0.8\n",
            2,
            "tracking.match_tresh: unknown key; did you mean 'match_thresh'?",
            id="misspelt",
        ),
        pytest.param(
            "tracking:\n  match_thresh: 1e-3\n",
            2,
            "tracking.match_thresh: expected a number; '1e-3' is text in YAML, "
            "write a plain number such as 0.001",
            id="1e-3",
        ),
        pytest.param(
            "tracking:\n  match_thresh: 0.8\n  track_buffer_s: 1\n  match_thresh: 0.7\n",
            4,
            "tracking.match_thresh: stands twice (first on line 2); remove one",
            id="duplicate",
        ),
        pytest.param(
            "annotation: {workers: 1}\ntracking: {}\nannotation: {workers: 2}\n",
            3,
            "annotation: stands twice (first on line 1); remove one",
            id="duplicate-section",
        ),
        pytest.param(
            "dataset:\n  classes:\n    no: 0\n    yes: 1\n",
            3,
            "no: expected text as key; put it in quotes",
            id="norway",
        ),
        pytest.param(
            "annotation:\n  dataset: 2024-01-01\n",
            2,
            "'2024-01-01' is a date in YAML; put it in quotes",
            id="date",
        ),
        pytest.param(
            "dataset:\n  num_person: 0x" + "f" * 5000,
            2,
            "expected a number of at most 100 digits",
            id="endless-number",
        ),
        pytest.param(
            "annotation: &a {workers: 1}\ntracking: *a\n",
            2,
            "not readable YAML: aliases (*name) are not supported; write it out",
            id="alias",
        ),
        pytest.param(
            "dataset:\n  <<: {num_person: 4}\n",
            2,
            "<<: expected text as key; put it in quotes",
            id="merge",
        ),
        pytest.param("tracking:\n\tmatch_thresh: 1", 2, "not readable YAML: found", id="tab"),
        pytest.param(
            "tracking:\n",
            1,
            "tracking: expected a section of 'key: value' lines; got nothing",
            id="empty-section",
        ),
        pytest.param(
            "dataset:\n  split:\n    ratios: [0.7, 0.2, 0.2]\n",
            3,
            "dataset.split.ratios: expected three numbers >= 0 that sum to 1, got [0.7, 0.2, 0.2]",
            id="ratios",
        ),
        pytest.param(
            "dataset:\n  split:\n    source_regex: abc\n",
            3,
            "dataset.split.source_regex: expected one group (...) that names the source, "
            "got 0 in 'abc'",
            id="regex-without-group",
        ),
        pytest.param(
            "dataset:\n  split:\n    source_regex: (\n",
            3,
            "dataset.split.source_regex: expected a regular expression, got '('",
            id="no-regex",
        ),
        pytest.param(
            "dataset:\n  classes: {Fight: 1}\n",
            2,
            "dataset.classes: expected two or more names with labels 0, 1, ... each once, "
            "got {'Fight': 1}",
            id="one-class",
        ),
        pytest.param(
            "dataset:\n  stride_s: 1.0\n",
            2,
            "dataset.stride_s: expected window_s beside it, got none",
            id="stride-alone",
        ),
        pytest.param(
            "scoring:\n  fight: {movement: 0, interaction: 0, position: 0, temporal: 0}\n",
            2,
            "scoring.fight: expected at least one weight above 0",
            id="no-weight",
        ),
        pytest.param(
            "models:\n  pose_estimation:\n    onnx:\n      device: gpu\n",
            4,
            "models.pose_estimation.onnx.device: expected cpu or cuda:N, such as cuda:0; got 'gpu'",
            id="device",
        ),
        pytest.param(
            "annotation:\n  dataset: ../up\n",
            2,
            "annotation.dataset: expected a plain name that can be a folder, without / or ..; "
            "got '../up'",
            id="name-that-climbs",
        ),
    ],
)
def test_refusals_name_file_line_and_key(tmp_path, text, line, message):
    assert refused(tmp_path, text).startswith(f"{tmp_path / 'config.yaml'}:{line}: {message}")


def test_all_errors_are_reported_at_once(tmp_path):
    text = "tracking:\n  match_thresh: 7\n  track_bufer_s: 1\nvisualize:\n  crf: 60\n"
    lines = refused(tmp_path, text).splitlines()
    assert [line.split(": ")[0].rpartition(":")[2] for line in lines] == ["2", "3", "5"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "x" * 101, "\ud800", "a\nb"])
def test_a_data_set_name_is_a_plain_folder_name(name):
    with pytest.raises(ValidationError):
        Config.model_validate({"annotation": {"dataset": name}})


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "hello",
        "a: 1\n---\nb: 2",
        "a: \0",
        '"\\ud800": 1',
        "!!int x: 1",
        "a: !!int x",
        "a: !!bool z",
        "a: !!int ''",
        "a: !!float ''",
        "a: !!python/object/apply:os.getcwd []",
        "a: !!binary '%'",
        "? [a]\n: 1",
        "[" * 20000,
    ],
    ids=range(14),
)
def test_what_is_no_config_is_refused(tmp_path, text):
    start = time.process_time()
    assert str(tmp_path / "config.yaml") in refused(tmp_path, text)
    assert time.process_time() - start < 10


def test_a_file_too_large_is_refused_at_once(tmp_path):
    assert "at most" in refused(tmp_path, "a: 1\n" * 100_000)


def test_latin1_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes("annotation: {dataset: caf\xe9}".encode("latin-1"))
    with pytest.raises(ConfigError, match="expected UTF-8 text"):
        load_config(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a YAML file, found none at .*gone"):
        load_config(tmp_path / "gone.yaml")


def test_a_shipped_config_that_is_not_in_this_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        load_config(Path("configs/live.yaml"), [])
    shipped = Path(str(caught.value).rpartition("copy ")[2])
    assert shipped.is_file()


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}"], ids=["empty", "comment", "map"])
def test_an_empty_file_is_all_defaults(tmp_path, text):
    assert load_config(write(tmp_path, text)).tracking == TrackingConfig()


def test_values_cannot_change_later():
    with pytest.raises(ValidationError):
        Config().tracking.match_thresh = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "dataset.classes",
            "{정상:0, 싸움:1}",
            "got nothing; YAML wants a space after the colon: '싸움: 1'",
        ),
        ("dataset.classes", "정상:0", "a space after the colon: '정상: 0'"),
        ("tracking", "{match_thresh:0.5}", "a space after the colon: 'match_thresh: 0.5'"),
    ],
)
def test_a_missing_space_after_a_colon_is_named(tmp_path, key, value, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, ""), [f"{key}={value}"])
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, _nested(key, value)))


def _nested(key, value):
    *sections, last = key.split(".")
    return "".join(f"{'  ' * i}{s}:\n" for i, s in enumerate(sections)) + (
        f"{'  ' * len(sections)}{last}: {value}\n"
    )


def test_other_values_get_no_advice_about_colons(tmp_path):
    for value in ("", "[a]", "one two", "http://a"):
        assert "colon" not in refused(tmp_path, f"dataset:\n  classes: {value}\n")


def test_a_whole_number_is_a_number_but_a_bool_is_none(tmp_path):
    assert load_config(write(tmp_path, "tracking: {track_buffer_s: 2}")).tracking == (
        TrackingConfig(track_buffer_s=2.0)
    )
    assert "expected a number; got True" in refused(tmp_path, "tracking: {track_buffer_s: true}")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value):
    with pytest.raises(ValidationError):
        OnnxPoseConfig(gpu_mem_limit_gb=value)


def test_a_message_names_twenty_keys_and_counts_the_others(tmp_path):
    text = "".join(f"unknown_{i}: 1\n" for i in range(2000))
    with pytest.raises(ConfigError, match="unknown_0: unknown key") as caught:
        load_config(write(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 21
    assert str(caught.value).endswith("and 1980 more")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("annotation.input", '"\\ud800"'),
        ("annotation.worker_memory_gb", "1e23"),
        ("annotation.stall_timeout_s", "1.0e+300"),
    ],
)
def test_values_that_no_system_takes_are_refused(tmp_path, key, value):
    with pytest.raises(ConfigError, match=re.escape(key)):
        load_config(write(tmp_path, "{}"), [f"{key}={value}"])


@pytest.mark.parametrize(
    "camera",
    [
        "{name: a, url: 'rtsp://admin:hunter2@host:99999/x'}",
        "{name: a, url: 'http://admin:hunter2@'}",
        "{name: a, url: 'rtsp://admin:hunter2@host/x', device: 0}",
        "{name: a, url: 'rtsp://admin:hunter2@host/x', fps: 0}",
        "{name: a, url: 'rtsp://admin:hunter2@host/x', colour: red}",
        "{url: 'rtsp://admin:hunter2@host/x'}",
        "'rtsp://admin:hunter2@host/x'",
    ],
)
def test_no_message_shows_a_cameras_password(tmp_path, camera):
    path = tmp_path / "config.yaml"
    path.write_text(f"live: {{cameras: [{camera}]}}", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "live.cameras" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "live: {page: {password: hunter2}}",
        "live: {page: {metrics_token: hunter2}}",
        "live: {alerts: {sinks: [{name: b, kind: mqtt, host: h, user: u, password: hunter2}]}}",
        "live: {alerts: {sinks: [{name: b, kind: webhook, url: 'http://h/x', secret: hunter2}]}}",
        "live: {alerts: {sinks: [{name: b, kind: frigate, url: 'http://h/x', token: [hunter2]}]}}",
    ],
)
def test_a_secret_in_plain_text_is_refused_without_being_shown(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"expected \{env: NAME\} or \{file: path\}") as caught:
        load_config(path)
    assert "hunter2" not in str(caught.value)


def test_set_does_not_show_an_address(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("live: {cameras: []}", encoding="utf-8")
    for text in ("live.cameras.0.url=rtsp://u:hunter2@h/x", "live..url=rtsp://u:hunter2@h/x"):
        with pytest.raises(ConfigError) as caught:
            load_config(path, [text])
        assert "hunter2" not in str(caught.value)
