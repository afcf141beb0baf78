"""The config: the guide's YAML, the shipped file, paths, overrides, pleasant refusals."""

import itertools
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from recognizer.config.file import ConfigError, known_keys, load_config, parse_yaml
from recognizer.config.schema import Config

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "configs" / "config.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text), overrides)
    return str(caught.value)


def leaves(section: BaseModel, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


# --- the user's guide, as it stands ------------------------------------------------

GUIDE_PTH = """\
models:
  pose_estimation:
    inference_mode: pth
    pth:
      config_file: /workspace/mmpose/configs/body_2d_keypoint/rtmo/body7/rtmo-l_16xb16-600e_body7-640x640.py
      checkpoint_path: /workspace/mmpose/checkpoints/rtmo-l_16xb16-600e_body7-640x640-b37118ce_20231211.pth
      device: cuda:0
      input_size: [640, 640]
      score_threshold: 0.2
      nms_threshold: 0.65
      keypoint_threshold: 0.3
"""  # noqa: E501
GUIDE_ONNX = """\
models:
  pose_estimation:
    inference_mode: onnx
    onnx:
      model_path: /workspace/mmpose/checkpoints/end2end_l.onnx
      device: cuda:0
      model_input_size: [640, 640]
      score_threshold: 0.3
      nms_threshold: 0.45
      keypoint_threshold: 0.3
      max_detections: 100

      # ONNX Runtime 최적화
      execution_mode: ORT_SEQUENTIAL
      graph_optimization_level: ORT_ENABLE_ALL
      enable_mem_pattern: true
      enable_cpu_mem_arena: true
      gpu_mem_limit_gb: 8
"""
GUIDE_TENSORRT = """\
models:
  pose_estimation:
    inference_mode: tensorrt
    tensorrt:
      model_path: /workspace/mmpose/checkpoints/rtmo.trt
      device: cuda:0
      model_input_size: [640, 640]
      score_threshold: 0.3
      nms_threshold: 0.45
      fp16_mode: false
"""
# Section 1.4 shows two fragments; they stand under models.pose_estimation.
GUIDE_MEMORY = """\
models:
  pose_estimation:
    onnx:
      gpu_mem_limit_gb: 8               # GPU 메모리 제한
      arena_extend_strategy: kNextPowerOfTwo
      enable_cpu_mem_arena: true
      enable_mem_pattern: true
"""
GUIDE_SPEED = """\
models:
  pose_estimation:
    onnx:
      execution_mode: ORT_SEQUENTIAL    # 또는 ORT_PARALLEL
      graph_optimization_level: ORT_ENABLE_ALL
      tunable_op_enable: true
      tunable_op_tuning_enable: true
      cudnn_conv_algo_search: HEURISTIC
"""


@pytest.mark.parametrize(
    ("text", "block"),
    [
        pytest.param(GUIDE_PTH, "pth", id="1.2-pth"),
        pytest.param(GUIDE_ONNX, "onnx", id="1.2-onnx"),
        pytest.param(GUIDE_TENSORRT, "tensorrt", id="1.2-tensorrt"),
        pytest.param(GUIDE_MEMORY, "onnx", id="1.4-memory"),
        pytest.param(GUIDE_SPEED, "onnx", id="1.4-speed"),
    ],
)
def test_the_guides_yaml_loads_as_it_stands(tmp_path, text, block):
    written = yaml.safe_load(text)["models"]["pose_estimation"]
    pose = load_config(write(tmp_path, text)).models.pose_estimation
    assert pose.inference_mode == written.get("inference_mode", "onnx")
    for key, value in written[block].items():
        came = getattr(getattr(pose, block), key)
        assert (list(came) if isinstance(came, tuple) else came) == value, key


def test_a_guides_file_of_its_own_keeps_the_shipped_defaults(tmp_path):
    """It changes what it names, and nothing else: no kind, so that the network's own counts."""
    block = yaml.safe_load(GUIDE_ONNX)["models"]["pose_estimation"]["onnx"]
    prefix = "models.pose_estimation.onnx."
    own, shipped = leaves(load_config(write(tmp_path, GUIDE_ONNX))), leaves(load_config(SHIPPED))
    assert {key for key in own if own[key] != shipped[key]} <= {f"{prefix}{key}" for key in block}
    assert own["models.pose_estimation.kind"] == "auto"


# --- the shipped file --------------------------------------------------------------


def test_shipped_file_has_every_key():
    lines = parse_yaml(SHIPPED.read_text(encoding="utf-8"), SHIPPED).lines
    stands = {".".join(key) for key in lines if all(isinstance(part, str) for part in key)}
    stands -= {key for key in stands if key.startswith("dataset.classes.")}
    assert stands == set(known_keys())


def test_there_is_one_set_of_defaults(tmp_path):
    """A file without a key, wherever it stands, means what configs/config.yaml shows."""
    shipped = leaves(load_config(SHIPPED))
    assert leaves(load_config(write(tmp_path, ""))) == shipped
    assert leaves(Config()) == shipped
    assert "built-in" not in SHIPPED.read_text(encoding="utf-8")


def test_every_key_of_the_shipped_file_is_explained():
    """Each key has a comment above, in its block, or is explained by a block it repeats."""
    text = SHIPPED.read_text(encoding="utf-8").splitlines()
    explained: set[str] = set()
    unexplained = []
    for before, line in itertools.pairwise(text):
        name = re.match(r"\s*([a-z_0-9]+):", line)
        if not name:
            continue
        if before.lstrip().startswith("#"):
            explained.add(name[1])
        elif line.rstrip().endswith(":") or name[1] in explained:
            continue  # a section's head, or a key whose meaning stands in an earlier block
        else:
            unexplained.append(line.strip())
    # std_rgb shares mean_rgb's comment.
    assert unexplained == ["std_rgb: [58.395, 57.12, 57.375]"]


def test_loading_the_shipped_file_is_quick():
    load_config(SHIPPED)
    start = time.process_time()
    load_config(SHIPPED)
    assert time.process_time() - start < 0.3


# --- paths -------------------------------------------------------------------------


def test_paths_in_the_file_are_relative_to_the_file(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "conf").mkdir()
    text = "annotation: {input: videos, output_dir: ../out}\nmodels: {weights_dirs: [w, /abs]}\n"
    path = write(tmp_path / "conf", text)
    monkeypatch.chdir(elsewhere)
    for given in (path, Path("../conf/config.yaml")):
        config = load_config(given)
        assert config.annotation.input == tmp_path / "conf" / "videos" or (
            config.annotation.input.resolve() == tmp_path / "conf" / "videos"
        )
        assert config.annotation.output_dir.resolve() == tmp_path / "out"
        assert config.models.weights_dirs[0].resolve() == tmp_path / "conf" / "w"
        assert config.models.weights_dirs[1] == Path("/abs")


def test_paths_of_set_are_relative_to_the_shell(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    path = write(tmp_path / "conf", "annotation: {output_dir: out}\n")
    monkeypatch.chdir(tmp_path)
    overrides = ["annotation.input=videos", "models.weights_dirs=[a, /b]"]
    config = load_config(path, overrides)
    assert config.annotation.input == tmp_path / "videos"
    assert config.models.weights_dirs == [tmp_path / "a", Path("/b")]
    assert config.annotation.output_dir == tmp_path / "conf" / "out"


def test_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = load_config(write(tmp_path, ""), ["annotation.input=~/videos"])
    assert config.annotation.input == tmp_path / "videos"


@pytest.mark.parametrize(
    "name", ["a b", "a: b", "한국어", "a#b", "a #b", "&x y", "it's", "2024-01-01", "-x", "[a"]
)
def test_set_takes_paths_that_are_not_yaml(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    config = load_config(write(tmp_path, ""), [f"annotation.input={name}"])
    assert config.annotation.input == tmp_path / name


# --- --set -------------------------------------------------------------------------


def test_set_wins_over_the_file_and_the_last_set_wins(tmp_path):
    path = write(tmp_path, "annotation: {workers: 1, batch_size: 2}\n")
    config = load_config(path, ["annotation.workers=3", "annotation.workers=4"])
    assert (config.annotation.workers, config.annotation.batch_size) == (4, 2)


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("annotation.gpus=[0, 1]", lambda c: c.annotation.gpus == [0, 1]),
        ("annotation.sample_fps=null", lambda c: c.annotation.sample_fps is None),
        ("annotation.sample_fps=12.5", lambda c: c.annotation.sample_fps == 12.5),
        ("annotation.workers=auto", lambda c: c.annotation.workers == "auto"),
        ("visualize.skeleton_only=true", lambda c: c.visualize.skeleton_only is True),
        ("dataset.classes={ADL: 0, Fall: 1}", lambda c: c.dataset.classes == {"ADL": 0, "Fall": 1}),
        ("dataset.split={seed: 3}", lambda c: c.dataset.split.seed == 3),
        (
            "models.pose_estimation.onnx.model_input_size=[256, 192]",
            lambda c: c.models.pose_estimation.onnx.model_input_size == (256, 192),
        ),
        (
            r"dataset.split.source_regex=([^/]+)_\d+\.mp4$",
            lambda c: c.dataset.split.source_regex == r"([^/]+)_\d+\.mp4$",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_set_reads_values_as_yaml(tmp_path, override, read):
    assert read(load_config(write(tmp_path, ""), [override]))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "annotation.worker=2",
            "--set: annotation.worker: unknown key; did you mean 'workers'?",
        ),
        ("anotation.workers=2", "--set: anotation: unknown key; did you mean 'annotation'?"),
        (
            "onnx.device=cpu",
            "--set: onnx: unknown key; did you mean 'models.pose_estimation.onnx'?",
        ),
        ("nothing", "--set nothing: expected key.path=value, such as annotation.workers=2"),
        ("=3", "--set =3: expected key.path=value, such as annotation.workers=2"),
        ("a..b=3", "--set a..b=3: expected key.path=value, such as annotation.workers=2"),
        ("annotation.input.x=3", "--set annotation.input.x=3: input is a value, not a section"),
        (
            "annotation.workers=many",
            "--set: annotation.workers: expected 'auto' or a whole number; got 'many'",
        ),
        ("annotation.workers=0", "--set: annotation.workers: expected 'auto' or at least 1; got 0"),
        ("annotation.input=", "--set: annotation.input: expected a path as text; got nothing"),
        (
            "tracking.track_low_thresh=0.9",
            "--set: tracking.track_low_thresh: expected at most track_high_thresh (0.5 for rtmo, "
            "0.25 for topdown, 0.12 for movenet), got 0.9",
        ),
        (
            "annotation.dataset=no",
            "--set: annotation.dataset: expected text; got False, as YAML reads it; "
            "put it in quotes if it is text",
        ),
    ],
    ids=lambda value: value.split("=")[0] if not value.startswith("--") else "",
)
def test_set_refuses_with_a_message_for_a_person(tmp_path, override, message):
    text = "annotation: {input: videos, workers: 1}\n"
    assert refused(tmp_path, text, override) == message
