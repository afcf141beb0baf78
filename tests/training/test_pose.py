"""The modes train.pose and what they refuse, through the command line."""

import io
import json
import logging
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from main import main  # noqa: E402
from recognizer.runner.hooks import NOT_FINITE  # noqa: E402
from recognizer.runner.seeding import SampleError  # noqa: E402
from recognizer.training.pose.learning_curves import TABLE, read_curve  # noqa: E402
from recognizer.training.pose.train import memory_advice  # noqa: E402
from tests.sdpose import small_coco  # noqa: E402
from tests.sdpose.small_coco import BASELINE, TINY, annotations, write_annotations  # noqa: E402

pytestmark = [small_coco.needs_coco, pytest.mark.usefixtures("quick_mmengine", "quick_figures")]
SHORT = (*TINY, "train_cfg.max_epochs=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small_coco.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def own(tmp_path):
    """Return a data set that a test may damage."""
    return small_coco.write_data(tmp_path / "data")


@pytest.fixture
def run(tmp_path, capsys, caplog):
    """Train through the command line; return exit code, what was logged and the last word."""

    def start(data_root, *options, config=BASELINE, base=SHORT, more=()):
        arguments = [
            "--mode",
            "train.pose",
            "--train-config",
            str(config),
            "--set",
            f"train.data_root={data_root}",
            "--set",
            f"train.work_dir={tmp_path / 'work'}",
            *more,
        ]
        with caplog.at_level(logging.INFO):
            code = main([*arguments, "--cfg-options", *base, *options])
        return code, caplog.text, capsys.readouterr().err

    return start


def test_a_training_leaves_what_the_guide_promises(run, data, tmp_path):
    curves = [option for option in SHORT if "vis_backends" not in option]
    code, log, output = run(data, "custom_hooks.1.interval=1", base=curves)
    assert code == 0, output
    (command,) = [line for line in log.splitlines() if "next: " in line]
    _, script, *again = shlex.split(command.partition("next: ")[2])
    assert script.endswith("main.py")
    assert main(again) == 0  # as it stands
    assert (tmp_path / "work" / "report" / "metrics.json").is_file()
    work = tmp_path / "work"
    assert {path.name for path in work.iterdir()} >= {
        "training_stats.txt",
        "learning_curve.csv",
        "learning_curve.png",
        "epoch_1.pth",
        "last_checkpoint",
        "best_coco_AP_epoch_1.pth",
    }
    assert list(work.glob("*/vis_data/events.out.tfevents*"))
    (text,) = work.glob("*/*.log")
    assert "Iter [1] loss: " in text.read_text()
    assert "kpt_dist_loss: " in text.read_text()
    code, _, output = run(data)
    assert code == 1
    assert "--resume" in output
    before = (work / "epoch_1.pth").stat().st_mtime_ns
    assert run(data, more=["--resume"])[0] == 0
    assert (work / "epoch_1.pth").stat().st_mtime_ns == before


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory, quick_figures):
    """Return the work_dir of a training of one epoch."""
    work = tmp_path_factory.mktemp("trained") / "work"
    sets = (f"train.data_root={data}", f"train.work_dir={work}")
    options = [word for value in sets for word in ("--set", value)]
    arguments = ["--mode", "train.pose", "--train-config", str(BASELINE), *options]
    assert main([*arguments, "--cfg-options", *SHORT]) == 0
    return work


def test_resume_in_the_config_goes_on_as_well(run, data, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "work", symlinks=True)
    code, _, output = run(data, "resume=True", "train_cfg.max_epochs=2")
    assert code == 0, output
    assert [row["epoch"] for row in read_curve(tmp_path / "work" / TABLE)] == [1, 2]
    assert (tmp_path / "work" / "epoch_2.pth").is_file()


def test_bfloat16_trains(run, data, trained, tmp_path):
    options = ("optim_wrapper.type=AmpOptimWrapper", "optim_wrapper.dtype=bfloat16")
    code, _, output = run(data, *options)
    assert code == 0, output
    places = (trained, tmp_path / "work")
    losses = [read_curve(place / TABLE)[0]["heatmap_loss"] for place in places]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.slow
def test_a_compiled_training_learns_the_same(run, data, tmp_path):
    from torch._dynamo.utils import counters

    heatmap_losses = []
    for mode in ("False", "True"):
        counters.clear()
        code, _, output = run(
            data, f"compile={mode}", "train_cfg.max_epochs=3", "train_cfg.val_interval=1"
        )
        assert code == 0, output
        assert bool(counters["stats"]["unique_graphs"]) == (mode == "True")
        rows = read_curve(tmp_path / "work" / TABLE)
        heatmap_losses.append([row["heatmap_loss"] for row in rows])
        (tmp_path / "work").rename(tmp_path / f"compiled-{mode}")
    assert len(heatmap_losses[0]) == 3
    assert heatmap_losses[1] == pytest.approx(heatmap_losses[0], rel=1e-3)


def test_a_spike_is_reported_on_the_console(run, data):
    code, log, _ = run(
        data,
        "custom_hooks.0.interval=1",
        "custom_hooks.0.window=1",
        "custom_hooks.0.spike_ratio=1.0001",
        "optim_wrapper.optimizer.lr=0.5",
        "param_scheduler=[]",
        "train_cfg.max_epochs=2",
    )
    assert code == 0
    assert "recognizer.sdpose.hooks" in log
    assert "Loss spike detected!" in log


def test_a_loss_that_is_no_number_stops_and_names_the_people(run, data, tmp_path):
    code, _, output = run(
        data, "optim_wrapper.optimizer.lr=1e30", "param_scheduler=[]", "train_cfg.max_epochs=3"
    )
    assert code == 1
    assert "the samples of the batch are in" in output
    report = json.loads((tmp_path / "work" / NOT_FINITE).read_text())
    people = {
        f"{Path(data) / 'train2017'}/{str(person['image_id']).zfill(12)}.jpg {person['id']}"
        for person in annotations("train", 8)["annotations"]
    }
    assert 0 < len(report["samples"]) <= 4
    assert set(report["samples"]) <= people
    assert report["losses"]["loss"] in ("nan", "inf")


def without_keypoints(content):
    for person in content["annotations"]:
        del person["keypoints"]


def without_labels(content):
    for person in content["annotations"]:
        person.update(keypoints=[0] * 51, num_keypoints=0)


def sixteen(content):
    for person in content["annotations"]:
        person["keypoints"] = person["keypoints"][:48]


def doubled(content):
    content["annotations"].append(content["annotations"][0])


def elsewhere(content):
    content["images"][0]["file_name"] = "../../secret.jpg"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_keypoints, "is this an instances_*.json?"),
        (without_labels, "none of them has any"),
        (lambda c: c["annotations"].clear(), "found 0 persons in 8 images"),
        (sixteen, "expected 17 keypoints as x, y, visibility, got 16"),
        (doubled, "is there twice"),
        (elsewhere, "would leave the folder"),
        (lambda c: c["annotations"][3].update(image_id=5), "image_id 5 is no listed image"),
        (lambda c: c["annotations"][3].update(bbox=[0, 0, 10**300, 1]), "expected bbox"),
    ],
    ids=["no keypoints", "no labels", "nobody", "16", "twice", "path", "image", "huge"],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_annotations_that_cannot_be_used_are_named(run, own, tmp_path, split, change, message):
    content = annotations(split, 8)
    change(content)
    write_annotations(own, split, content)
    code, _, text = run(own)
    assert code == 1
    assert message in text
    assert f"person_keypoints_{split}2017.json" in text
    assert not list((tmp_path / "work").glob("*.pth"))


@pytest.mark.parametrize("epochs", ["0", "-3", "1.5"])
def test_a_number_of_epochs_that_is_none_is_named(run, own, epochs):
    code, _, output = run(own, f"train_cfg.max_epochs={epochs}")
    assert code == 2
    assert f"train_cfg.max_epochs: expected a number above 0, got {epochs}" in output


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, ""], ids=["list", "cut", "deep", "no"])
def test_files_that_are_no_annotations_are_named(run, own, text):
    write_annotations(own, "train", text)
    code, _, output = run(own)
    assert code == 1
    assert "person_keypoints_train2017.json" in output


def test_data_that_is_not_there_is_named(run, own, tmp_path):
    code, _, output = run(tmp_path / "nowhere")
    assert code == 1
    assert f"expected COCO annotations at {tmp_path}/nowhere/annotations/" in output
    assert "--set train.data_root=" in output
    for path in list((own / "train2017").iterdir())[:3]:
        path.unlink()
    code, _, output = run(own)
    assert code == 1
    assert "3 of 8 pictures that the annotations name are not there" in output


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 and no more", b"text"])
def test_a_damaged_picture_is_named_before_an_epoch(run, own, content):
    picture = sorted((own / "train2017").iterdir())[5]
    picture.unlink()
    picture.write_bytes(content)
    code, _, output = run(own)
    assert code == 1
    assert f"{picture.name}: expected a picture that can be decoded, got a" in output


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_only_looks_whole_is_named_in_the_epoch(run, own, workers):
    """Its header and its end are there, its pixels are not."""
    picture = sorted((own / "train2017").iterdir())[5]
    png = io.BytesIO()
    with Image.open(picture) as image:
        image.save(png, "PNG")
    picture.unlink()
    picture.write_bytes(png.getvalue()[:33] + png.getvalue()[-12:])
    code, _, output = run(
        own, f"train_dataloader.num_workers={workers}", "train_dataloader.batch_size=1"
    )
    assert code == 1
    assert output.startswith(f"SampleError: sample {picture} ")
    assert "take it out of the annotations" in output
    assert "Traceback" not in output


def test_a_sample_error_of_a_worker_says_it_once():
    text = "Caught SampleError in DataLoader worker process 0.\nOriginal Traceback\n  File x\n"
    error = SampleError(f"{text}recognizer.runner.seeding.SampleError: sample a.jpg 3: bad\n")
    assert str(error) == "sample a.jpg 3: bad"
    assert str(SampleError("sample a.jpg 3: bad")) == "sample a.jpg 3: bad"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train_dataloader.batch_size=0", "batch_size"),
        ("train_dataloader.batch_size=many", "batch_size"),
        ("optim_wrapper.optimizer.lr=-1.0", "Invalid learning rate"),
        ("model.head.loss_vis_token_dist.type=NoSuchLoss", "NoSuchLoss"),
        ("model.head.loss_vis_token_dist.loss_weight=-1", "a number >= 0, got -1"),
        ("model.head.patch_size=(5,3)", "feature map of whole patches"),
        ("model.head.feature_size=(48,64)", "expected a feature map (256, 64, 48)"),
        ("model.head.heatmap_size=(48,64)", "expected target heatmaps (17, 64, 48)"),
        ("train_dataloader.dataset.type=NoSuchDataset", "NoSuchDataset"),
        ("optim_wrapper.optimiser.lr=1", "optimiser"),
    ],
)
def test_a_config_that_cannot_work_is_exit_code_2(run, data, option, message):
    code, _, text = run(data, option)
    assert code == 2
    assert message in text
    assert "train.config_file" in text


def test_an_epoch_without_a_batch_is_refused(run, data, tmp_path):
    code, _, text = run(data, "train_dataloader.batch_size=9", "train_dataloader.drop_last=True")
    assert code == 2
    assert "the train data holds 8 people, which fill no batch" in text
    assert not list((tmp_path / "work").glob("*.pth"))


def test_a_file_that_is_no_config_is_exit_code_2(run, data, tmp_path):
    for name, text in (("a.py", "x = 1 / 0"), ("b.txt", "{"), ("c.py", ""), ("d.py", "x = = 1")):
        (tmp_path / name).write_text(text)
        code, _, output = run(data, config=tmp_path / name)
        assert code == 2
        assert name in output
    code, _, output = run(data, config=tmp_path / "none.py")
    assert code == 2
    assert "none.py, found none" in output


def test_no_config_names_those_there_are(capsys):
    assert main(["--mode", "train.pose"]) == 2
    output = capsys.readouterr().err
    assert "--train-config" in output
    assert "sdpose_s_v1_fsd_best_coco_256x192.py" in output


def test_a_batch_larger_than_the_data_set_is_the_data_set(run, data, tmp_path):
    code, _, output = run(data, "train_dataloader.batch_size=64")
    assert code == 0, output
    assert (tmp_path / "work" / "epoch_1.pth").is_file()
    assert torch.load(tmp_path / "work" / "epoch_1.pth", weights_only=True)["meta"]["iter"] == 1


def test_advice_is_given_where_memory_ran_out_and_only_there():
    cfg = small_coco.tiny(Path("/data"), "/work", "train_dataloader.batch_size=64")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    advice = memory_advice(caught.value, cfg)
    assert "batch_size=64" in advice
    assert "train_dataloader.batch_size=32" in advice
    assert "accumulative_counts=2" in advice
    gpu = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
    assert "CUDA out of memory" in memory_advice(gpu, cfg)
    assert memory_advice(RuntimeError("shapes do not fit"), cfg) == ""
