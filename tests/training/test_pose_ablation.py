"""The mode train.ablation: equal batches, resuming, a table that says what it rests on."""

import contextlib
import csv
import json
import math
import shutil

import cv2
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from recognizer.config.file import ConfigError  # noqa: E402
from recognizer.config.schema import Config  # noqa: E402
from recognizer.runs.progress import silent  # noqa: E402
from recognizer.training.classifier.report import spread  # noqa: E402
from recognizer.training.pose.ablation import ablation, options_for  # noqa: E402
from recognizer.training.pose.ablation_report import mean_rows  # noqa: E402
from tests.sdpose.small_coco import BASELINE, CONFIGS, TINY, needs_coco, write_data  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_mmengine", "quick_figures")

DYNAMIC = CONFIGS / "sdpose_s_v1_fsd_dynamic_coco_256x192.py"
BEST = CONFIGS / "sdpose_s_v1_fsd_best_coco_256x192.py"
BASE_NAME, DYNAMIC_NAME = "sdpose_s_v1_stemnet", "sdpose_s_v1_fsd_dynamic"
SHORT = (
    *(option for option in TINY if "seed" not in option),
    "train_cfg.max_epochs=2",
    "model.test_cfg.flip_test=False",
    "default_hooks.checkpoint.interval=1",
    f"{DYNAMIC_NAME}:model.head.loss_vis_token_dist.start_epoch=0",
    f"{DYNAMIC_NAME}:model.head.loss_vis_token_dist.end_epoch=2",
)


def config(data, folder, *options, files=(BASELINE, DYNAMIC), seeds=(0, 1), **more):
    section = {
        "config_file": [str(path) for path in files],
        "data_root": str(data),
        "cfg_options": [*SHORT, *options],
        **more,
    }
    own = {"seeds": list(seeds), "output_dir": str(folder)}
    return Config.model_validate({"train": section, "ablation": own})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("coco"), train=6, val=2)


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """Two configs with two seeds, trained."""
    folder = tmp_path_factory.mktemp("ablation")
    assert ablation(config(data, folder), silent) == 0
    return folder


def report(folder):
    return json.loads((folder / "ablation.json").read_text(encoding="utf-8"))


def checkpoints(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.pth")}


@needs_coco
def test_the_seed_alone_decides_the_batches(done):
    value = report(done)
    assert value["same_batches"] is True
    seen = {(run["config"], run["seed"]): run["batches"] for run in value["runs"]}
    assert len(seen) == 4
    assert all(seen.values())
    assert seen[BASE_NAME, 0] == seen[DYNAMIC_NAME, 0] != seen[BASE_NAME, 1]
    epochs = [
        json.loads((done / run["folder"] / "epochs.json").read_text()) for run in value["runs"]
    ]
    assert all(list(each) == ["1", "2"] for each in epochs)
    one, two = (each["batches"] for each in epochs[0].values())
    assert one != two  # another order and other augmentation in the next epoch


@needs_coco
def test_the_table_says_what_it_rests_on(done):
    text = (done / "ablation.md").read_text(encoding="utf-8")
    assert "on 6 persons with keypoints in 6 images" in text
    assert "measured on 2 persons in 2 images" in text
    assert "2 epochs" in text
    assert "2 persons are too few to rank anything" in text
    assert "it flatters" in text  # the validation set is the test set
    assert "saw the same batches" in text
    assert "--mode train.ablation --train-config configs/body_2d" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert [row.split("|")[1].strip() for row in table[2:]] == [BASE_NAME, DYNAMIC_NAME]
    assert len({row.count("|") for row in table}) == 1
    assert " ± " in table[2]
    with (done / "ablation.csv").open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["seeds_done"] for row in rows] == ["2", "2"]
    first = report(done)["configs"][0]
    assert float(rows[0]["AP mean"]) == pytest.approx(first["AP"]["mean"], abs=1e-6)
    assert rows[0]["AP overlapping mean"] == ""  # nobody overlaps in these pictures
    assert first["step_s"]["mean"] > 0
    assert first["heatmap_loss"]["mean"] > 0
    assert first["AP - first"]["mean"] == 0
    picture = cv2.imread(str(done / "learning_curves.png"))
    assert picture is not None
    assert picture.std() > 5


@needs_coco
def test_last_and_best_checkpoint_are_measured_and_kept(done):
    for run in report(done)["runs"]:
        assert run["last"]["epoch"] == 2
        assert run["best"]["epoch"] in (1, 2)
        kept = [path.name for path in (done / run["folder"]).glob("*.pth")]
        assert sorted(name.split("_")[0] for name in kept) == ["best", "epoch", "latest.pth"]


@needs_coco
def test_the_same_command_again_trains_nothing_and_writes_the_same(data, done):
    before, files = checkpoints(done), ("ablation.md", "ablation.json", "ablation.csv")
    content = {name: (done / name).read_bytes() for name in files}
    assert ablation(config(data, done), silent) == 0
    assert checkpoints(done) == before
    assert {name: (done / name).read_bytes() for name in files} == content


def stopping_after(steps):
    """Return a watch that stops the program, as Ctrl-C would, after some iterations."""
    reported = []

    def advance(outcome, frames):
        reported.append(outcome)
        if len(reported) == steps:
            raise KeyboardInterrupt

    return lambda title, total: contextlib.nullcontext(advance)


@needs_coco
def test_a_run_that_was_stopped_goes_on_to_the_same_end(data, done, tmp_path):
    folder = tmp_path / "a"
    shutil.copytree(done, folder)
    run = report(done)["runs"][1]
    own = folder / run["folder"]
    shutil.rmtree(own)
    finished = checkpoints(folder)
    with pytest.raises(KeyboardInterrupt):
        ablation(config(data, folder), stopping_after(3))  # in the second epoch
    assert not (own / "result.json").exists()
    assert [path.name for path in own.glob("epoch_*.pth")] == ["epoch_1.pth"]
    steps = []
    count = lambda title, total: contextlib.nullcontext(lambda *_: steps.append(title))  # noqa: E731
    assert ablation(config(data, folder), count) == 0
    trained = [title for title in steps if title.startswith(DYNAMIC_NAME)]
    assert len(trained) == len(steps)
    again = report(folder)["runs"][1]
    assert again["figures"] == run["figures"]
    assert again["batches"] == run["batches"]
    curves = [
        (place / run["folder"] / "learning_curve.csv").read_bytes() for place in (done, folder)
    ]
    assert curves[0] == curves[1]
    assert finished.items() <= checkpoints(folder).items()


@needs_coco
def test_a_config_that_diverges_is_recorded_and_the_others_go_on(data, done, tmp_path):
    folder = tmp_path / "a"
    shutil.copytree(done, folder)
    finished = checkpoints(folder)
    wild = f"{DYNAMIC_NAME}:optim_wrapper.optimizer.lr=1e30"
    code = ablation(config(data, folder, wild, seeds=(0,)), silent)
    assert code == 3
    base, dynamic = report(folder)["runs"]
    assert base["state"] == "done"
    assert dynamic["state"] == "failed"
    assert "NotFiniteError" in dynamic["reason"]
    assert dynamic["figures"]["AP"] is None
    text = (folder / "ablation.md").read_text(encoding="utf-8")
    assert "**failed**: NotFiniteError" in text
    assert "optim_wrapper.optimizer.lr: 1e+30 instead of 0.001" in text
    assert finished.items() <= checkpoints(folder).items()  # nothing of others was touched


@needs_coco
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"files": ()}, "expected mmpose configs"),
        ({"files": (BASELINE, BASELINE)}, "named twice"),
        ({"seeds": (1, 1)}, "different seeds"),
        ({"work_dir": "x"}, "ablation.output_dir"),
        ({"files": (BASELINE, CONFIGS / "none.py")}, r"none\.py"),
    ],
)
def test_what_cannot_be_compared_is_refused(data, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        ablation(config(data, tmp_path, **changes), silent)
    assert not list(tmp_path.iterdir())


@needs_coco
def test_options_that_cannot_be_are_refused_before_anything_is_trained(data, tmp_path):
    with pytest.raises(ConfigError, match="no config is called 'sdpose_x'"):
        ablation(config(data, tmp_path, "sdpose_x:train_cfg.max_epochs=1"), silent)
    with pytest.raises(ConfigError, match="no_such_key"):
        ablation(config(data, tmp_path, f"{DYNAMIC_NAME}:model.head.no_such_key=1"), silent)
    same = tmp_path / "copy.py"
    same.write_text(f"_base_ = {str(BASELINE)!r}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"'{BASE_NAME}' names several"):
        ablation(config(data, tmp_path, files=(BASELINE, same)), silent)
    with pytest.raises(FileNotFoundError, match="expected COCO annotations"):
        ablation(config(tmp_path, tmp_path), silent)
    assert list(tmp_path.iterdir()) == [same]


def test_an_option_may_be_for_one_config():
    options = ["a.b=1", "fsd:a.c=x:y", "other.py:a.d=2", "load_from=http://x:1/y"]
    assert options_for({"fsd", "fsd_file"}, options) == ["a.b=1", "a.c=x:y", options[-1]]
    assert options_for({"third"}, options) == ["a.b=1", options[-1]]


def test_spread_and_means_leave_out_what_is_not_there():
    assert spread([0.1, None, 0.3]) == {
        "mean": pytest.approx(0.2),
        "standard_deviation": pytest.approx(math.sqrt(0.02)),
        "lowest": 0.1,
        "highest": 0.3,
    }
    assert set(spread([None]).values()) == {None}
    assert spread([0.5])["standard_deviation"] is None
    curves = [
        [{"epoch": 1.0, "coco/AP": 0.2}, {"epoch": 2.0, "coco/AP": 0.4}],
        [{"epoch": 1.0, "coco/AP": 0.4, "x": 1.0}],
    ]
    assert mean_rows(curves) == [{"epoch": 1.0, "coco/AP": pytest.approx(0.3)}]
    assert mean_rows([]) == []
