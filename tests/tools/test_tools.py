"""tools/: the command lines of OpenMMLab's tools, as guides write them."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmpose")

import main as application
from tests.action import trainings
from tests.sdpose import small_coco

ROOT = Path(__file__).resolve().parents[2]
OLD = "configs/body/2d_kpt_sview_rgb_img/sdpose/coco/sdpose_s_v1_fsd_best_coco_256x192.py"
FSD_BEST = "configs/body_2d_keypoint/sdpose/coco/sdpose_s_v1_fsd_best_coco_256x192.py"
FIGHT = "configs/skeleton/stgcnpp/stgcnpp_enhanced_fight_detection_stable.py"
FALLDOWN = "configs/skeleton/stgcnpp/stgcnpp_enhanced_falldown_detection_stable.py"


@pytest.fixture
def tool(monkeypatch):
    """Run a tool in this process; return its exit code and what main.py was given."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.chdir(ROOT)
    handed = []

    def record(words):
        handed[:] = words
        application._arguments(words)  # main.py takes them
        return 0

    monkeypatch.setattr(application, "main", record)

    def start(name, *words):
        spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / f"tools/{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main(list(words)), handed

    return start


@pytest.mark.parametrize(
    ("words", "mode", "has"),
    [
        (["train", FSD_BEST], "train.pose", []),
        (["train", OLD], "train.pose", [str(ROOT / FSD_BEST)]),
        (["train", f"/workspace/mmaction2/{FIGHT}"], "train.fight", [str(ROOT / FIGHT)]),
        (["train", FALLDOWN], "train.falldown", []),
        (["train", FSD_BEST, "--resume"], "train.pose", ["--resume", "auto"]),
        (["train", FSD_BEST, "--resume", "auto"], "train.pose", ["--resume", "auto"]),
        (["train", FSD_BEST, "--resume", "a.pth"], "train.pose", ["--resume", "a.pth"]),
        (["train", FSD_BEST, "--resume-from", "a.pth"], "train.pose", ["--resume", "a.pth"]),
        (["train", FSD_BEST, "--work-dir", "a b"], "train.pose", ['train.work_dir="a b"']),
        (["train", FSD_BEST, "--cfg-options", "a=1", "b=2"], "train.pose", ["a=1", "b=2"]),
        (
            ["train", FSD_BEST, "--amp", "--seed", "3"],
            "train.pose",
            ["train.seed=3", "optim_wrapper.type=AmpOptimWrapper"],
        ),
        (["train", FSD_BEST, "--local-rank=1"], "train.pose", []),
        (["train", FSD_BEST, "--local_rank", "1", "--launcher", "none"], "train.pose", []),
        (["test", FSD_BEST, "best.pth", "--eval", "mAP"], "test.pose", ["--checkpoint"]),
        (["test", FIGHT, "best.pth", "--eval", "top_k_accuracy"], "test.fight", ["best.pth"]),
        (["test", FIGHT, "best.pth", "--work-dir", "r"], "test.fight", ['test.output_dir="r"']),
        (["quick_check", OLD, "--iterations", "10"], "train.check", ["--iterations", "10"]),
    ],
    ids=lambda value: " ".join(value)[-50:] if isinstance(value, list) else value,
)
def test_the_guides_lines_become_main_pys(tool, words, mode, has):
    code, handed = tool(*words)
    assert code == 0
    assert handed[:2] == ["--mode", mode]
    assert set(has) <= set(handed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nosuch.py"], "expected a training config at nosuch.py"),
        (["train", FSD_BEST.replace("best", "bst")], "did you mean"),
        (["train", FSD_BEST, "--launcher", "pytorch"], "tools/dist_train.sh"),
        (["train", FSD_BEST, "--launcher", "slurm"], "not supported"),
        (
            ["train", str(Path(FIGHT).parent / "_base_/schedule.py")],
            "expected a model with a cls_head",
        ),
        (["test", FSD_BEST, "best.pth", "--eval", "PCK"], "--eval PCK: expected mAP"),
        (["quick_check", FIGHT], "expected a pose network, got a classifier"),
    ],
)
def test_errors_are_reported(tool, capsys, monkeypatch, words, message):
    monkeypatch.delenv("RANK", raising=False)
    code, handed = tool(*words)
    assert code == 2
    assert handed == []
    assert message in capsys.readouterr().err


def test_a_config_that_names_its_pickles_is_trained_on_these(tool, tmp_path):
    data = trainings.write_data(tmp_path / "data")
    config = tmp_path / "mine.py"
    loaders = "\n".join(
        f"{split}_dataloader = dict(dataset=dict(ann_file={str(data / split)!r} + '.pkl'))"
        for split in ("train", "val", "test")
    )
    config.write_text(
        f"_base_ = {str(ROOT / FIGHT)!r}\nrecognizer = dict(service='fight')\n" + loaders
    )
    assert f"train.dataset_dir={json.dumps(str(data))}" in tool("train", str(config))[1]
    option = "train_dataloader.dataset.ann_file=other.pkl"
    words = tool("train", str(config), "--cfg-options", option)[1]
    assert not any(word.startswith("train.dataset_dir") for word in words)


def test_only_one_of_several_processes_measures(tool, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert tool("test", FSD_BEST, "best.pth") == (0, [])
    monkeypatch.setenv("RANK", "0")
    code, handed = tool("test", FSD_BEST, "best.pth")
    assert (code, handed[1]) == (0, "test.pose")
    assert "WORLD_SIZE" not in os.environ


@pytest.mark.parametrize(
    "words",
    [
        ["dist_train.sh", "a.py"],
        ["dist_train.sh", "a.py", "x"],
        ["dist_test.sh", "a.py", "b.pth", "0"],
    ],
)
def test_the_scripts_say_how_they_are_used(words):
    done = subprocess.run(
        ["bash", str(ROOT / "tools" / words[0]), *words[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "usage: tools/dist_" in done.stderr


@small_coco.needs_coco
@pytest.mark.slow
def test_train_resume_and_test_as_the_guide_does(tmp_path):
    """Two processes by the guide's launcher, on from the best one, and a test."""
    data = small_coco.write_data(tmp_path / "data")
    options = ["--cfg-options", *small_coco.TINY, "train_cfg.max_epochs=2"]
    more = ["--work-dir", "work", "--set", f"train.data_root={data}", *options]
    launch = ["-m", "torch.distributed.launch", "--nproc_per_node=2", "--master_port=29517"]

    def start(*words):
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    start(*launch, ROOT / "tools/train.py", OLD, "--launcher", "pytorch", *more)
    (best,) = (tmp_path / "work").glob("best_coco_AP_epoch_*.pth")
    more[1] = "on"
    output = start(
        ROOT / "tools/train.py", OLD, *more, "train_cfg.max_epochs=3", f"resume_from={best}"
    )
    assert f"going on from {best}" in output
    assert {"latest.log", "latest.log.json", "latest.pth"} <= {
        path.name for path in (tmp_path / "on").iterdir()
    }
    more[1] = "report"
    output = start(ROOT / "tools/test.py", OLD, "on/latest.pth", "--eval", "mAP", *more)
    assert "after epoch 3" in output
    shutil.rmtree(tmp_path / "work")
