"""The first run on a fresh clone: no weights, no videos, only samples/."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from annotation.demo import SAMPLES, TRAIN_CONFIG, demo
from recognizer.config.file import load_config
from recognizer.dataset.mmaction import read_split
from recognizer.runs.manifest import read_manifest
from recognizer.runs.progress import silent
from recognizer.storage.artifacts import read_poses

pytestmark = pytest.mark.usefixtures("quick_mmengine", "quick_figures", "few_trees")

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ROOT.parent / "shared" / "assets" / "fight_surv"
# A fifth of the clips, two epochs: the same steps in a fraction of the time.
QUICK = ("annotation.include=['*[27].mp4']", "train.cfg_options=[train_cfg.max_epochs=2]")


# --- samples/ --------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("stage1", 213), ("falls_stage1", 16)])
def test_the_samples_are_whole_and_compact(name, count):
    manifest = read_manifest(SAMPLES / name)
    assert len(manifest.outcomes) == count
    assert {o.state for o in manifest.outcomes} == {"done"}
    assert manifest.settings["rounded_to"]["keypoints_px"] == 1 / 16
    files = {f"{o.video}.npz" for o in manifest.outcomes}
    assert files == {
        p.relative_to(SAMPLES / name).as_posix() for p in SAMPLES.glob(f"{name}/**/*.npz")
    }
    frames = {o.video: o.frames for o in manifest.outcomes}
    people, checked = 0, list(frames)[::10]
    for video in checked:
        sequence, _, meta = read_poses(SAMPLES / name / f"{video}.npz")
        assert (len(sequence), meta["schema_version"], meta["video"]) == (frames[video], 2, video)
        assert (np.rint(sequence.poses.keypoints * 16) == sequence.poses.keypoints * 16).all()
        people += len(sequence.poses)
    assert people >= sum(frames[video] for video in checked)  # somebody is there all the time


def test_the_samples_are_small_and_name_no_machine():
    files = [path for path in SAMPLES.rglob("*") if path.is_file()]
    poses = [path for path in files if "models" not in path.relative_to(SAMPLES).parts]
    assert sum(path.stat().st_size for path in poses) < 8e6
    text = b"".join(p.read_bytes() for p in files if p.suffix in {".json", ".csv", ".md", ".py"})
    assert b"/home/" not in text
    assert b"/root/" not in text


def test_every_fight_clip_has_its_recording():
    rows = (SAMPLES / "sources.csv").read_text().splitlines()
    videos = {row.split(",")[0] for row in rows[1:]}
    assert videos == {o.video for o in read_manifest(SAMPLES / "stage1").outcomes}
    assert len({row.split(",")[1] for row in rows[1:]}) > 25


@pytest.mark.skipif(not CLIPS.is_dir(), reason="needs ../shared/assets/fight_surv")
def test_the_samples_are_of_the_clips_that_are_there():
    from recognizer.storage.artifacts import sha256_file

    for video in ("Fight/fi007.mp4", "NonFight/nofi150.mp4"):
        meta = read_poses(SAMPLES / "stage1" / f"{video}.npz")[2]
        assert meta["source"]["sha256"] == sha256_file(CLIPS / video)


# --- the demo --------------------------------------------------------------------------


def config(folder, *sets):
    fixed = (f"annotation.output_dir={folder}", "models.weights_dirs=[]", "test.bootstrap=50")
    return load_config(ROOT / "configs" / "config.yaml", [*fixed, *sets])


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    assert demo(config(folder, *QUICK), silent) == 0
    return folder / "demo"


def test_the_demo_leaves_pickles_a_report_and_skeleton_videos(output):
    (stage3,) = (output / "stage3_dataset").iterdir()
    metadata = json.loads((stage3 / "metadata.json").read_text())
    assert len(metadata["samples"]) >= 30
    assert metadata["split_by"] == "source"
    for name in ("train.pkl", "val.pkl", "test.pkl", "report/skeletons_Fight.png"):
        assert (stage3 / name).stat().st_size > 1000
    assert len(list((output / "visualize").rglob("*.mp4"))) == 2


def test_the_demo_trains_and_tests_a_classifier(output):
    (work_dir,) = (output / "training").iterdir()
    (stage3,) = (output / "stage3_dataset").iterdir()
    report = json.loads((work_dir / "report" / "report.json").read_text())
    tracked = report["scores"]["tracked"]
    assert tracked["samples"] == len(read_split(stage3 / "test.pkl"))
    assert 0 <= tracked["overall"]["accuracy"]["value"] <= 1
    assert (work_dir / "report" / "confusion_matrix.png").stat().st_size > 1000


def test_a_second_demo_trains_nothing_anew(output, caplog):
    (work_dir,) = (output / "training").iterdir()
    before = {p: p.read_bytes() for p in work_dir.glob("*.pth")}
    assert before
    with caplog.at_level("INFO"):
        assert demo(config(output.parent, *QUICK), silent) == 0
    assert {p: p.read_bytes() for p in work_dir.glob("*.pth")} == before
    assert "epoch 1 of" not in caplog.text
    assert "test clips right" in caplog.text


def test_the_demos_schedule_ends_with_its_epochs():
    from recognizer.action.training import load_train_config

    cfg = load_train_config(TRAIN_CONFIG, [])
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[-1].end
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[-1].begin
    assert cfg.train_cfg.max_epochs % cfg.default_hooks.checkpoint.interval == 0


@pytest.fixture
def runtime_set(tmp_path):
    """Return a folder with the packages installed here but those of the training set."""
    packages, folder = Path(np.__file__).parents[1], tmp_path / "packages"
    folder.mkdir()
    for path in packages.iterdir():
        if not path.name.startswith(("torch", "functorch", "mm")):
            (folder / path.name).symlink_to(path)
    return folder


def test_without_torch_the_demo_makes_pickles_and_says_what_adds_the_training(
    tmp_path, runtime_set
):
    sets = (f"annotation.output_dir={tmp_path}", "models.weights_dirs=[]", QUICK[0])
    options = [word for value in sets for word in ("--set", value)]
    done = subprocess.run(
        [sys.executable, "-S", "main.py", "--mode", "demo", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(runtime_set)},
    )
    assert done.returncode == 0, done.stderr
    assert "make setup-train" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list(tmp_path.glob("demo/stage3_dataset/*/train.pkl"))) == 1
    assert not (tmp_path / "demo" / "training").exists()


@pytest.mark.slow
def test_the_whole_demo(tmp_path):
    assert demo(config(tmp_path), silent) == 0
    (report,) = tmp_path.rglob("report.json")
    figures = json.loads(report.read_text())["scores"]["tracked"]
    assert figures["samples"] >= 18
    assert figures["overall"]["accuracy"]["value"] > 0.5
    assert figures["overall"]["roc_auc"]["value"] > 0.6
