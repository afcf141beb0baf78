"""The small pose network: its start, its batches, and what it is taught."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from annotation.teacher_labels import DOUBT, PERSON, Labels
from benchmarks.gpu import small
from benchmarks.gpu.small_augment import Batch, Pool, Strength, augment
from benchmarks.gpu.small_data import SLOTS, Data, load, pack, padded, split_of
from benchmarks.gpu.small_export import SmallGraph, write
from benchmarks.gpu.small_loss import Assigned, _score, assign, losses, similarity
from benchmarks.gpu.small_network import Cells, SmallPose, load_start, read_start
from benchmarks.gpu.small_train import PLAIN, Recipe, Trainer
from recognizer.backends.graphs import Suppression
from recognizer.backends.metadata import PoseModelMetadata
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import OnnxPoseConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.pose.rtmo import RtmoPose
from recognizer.video.image import ArrayImage

ASSETS = Path(__file__).resolve().parents[4] / "shared" / "assets"
needs_assets = pytest.mark.skipif(not ASSETS.is_dir(), reason="needs ../shared/assets")
SIDE = 128
STILL = Strength(full_circle=0, turn=0, scale=(1, 1), shift=0, mosaic=0)


def _person(box=(30, 20, 70, 110)):
    """Return one picture of grey with a white person whose keypoints lie on a diagonal."""
    x1, y1, x2, y2 = box
    pictures = np.full((1, SIDE, SIDE, 3), 114, np.uint8)
    pictures[0, y1:y2, x1:x2] = 255
    along = np.linspace(0.1, 0.9, 17)
    keypoints = np.stack([x1 + along * (x2 - x1), y1 + along * (y2 - y1), np.ones(17)], -1)
    labels = padded(
        Labels(
            np.array([box], np.float32),
            keypoints[None].astype(np.float32),
            np.ones((1, 17), np.float32),
            np.array([PERSON], np.uint8),
            np.array([2000], np.float32),
        )
    )
    stacked = Labels(
        *(
            value[None]
            for value in (labels.boxes, labels.keypoints, labels.scores, labels.kinds, labels.areas)
        )
    )
    return Data(pictures, stacked, np.zeros(1, np.uint8), np.array(["a"]))


def _batch(strength, size=4):
    torch.manual_seed(0)
    return augment(Pool(_person(), torch.ones(1), "cpu"), size, strength)


@needs_assets
def test_the_start_says_what_the_public_file_says():
    import onnxruntime as ort

    path = ASSETS / "weights" / "yolox_nano.onnx"
    network = SmallPose()
    load_start(network, read_start(path))
    picture = np.random.default_rng(0).integers(0, 256, (1, 3, 416, 416)).astype(np.float32)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"images": picture})
    with torch.no_grad():
        cells = network(torch.from_numpy(picture))
    score = expected[0, :, 4] * expected[0, :, 5]
    assert np.abs(cells.scores[0].numpy() - score).max() < 1e-4
    extent = (cells.boxes[0, :, 2:] - cells.boxes[0, :, :2]).log().numpy()
    strides = np.repeat([8, 16, 32], [52 * 52, 26 * 26, 13 * 13])[:, None]
    assert np.abs(extent - np.log(strides) - expected[0, :, 2:4]).max() < 1e-3


def test_a_start_of_another_network_is_refused():
    with pytest.raises(ValueError, match="convolutions as in YOLOX-nano"):
        load_start(SmallPose(), {"w0": np.zeros((1, 1, 1, 1)), "b0": np.zeros(1)})


@pytest.mark.parametrize(
    "strength",
    [
        Strength(mosaic=0),
        Strength(full_circle=1, mosaic=0),
        Strength(mosaic=1),
    ],
)
def test_labels_move_with_their_picture(strength):
    batch = _batch(strength, 8)
    assert batch.pictures.shape == (8, 3, SIDE, SIDE)
    light = batch.pictures.mean(1)
    rows = (batch.kinds == PERSON).nonzero().tolist()
    assert rows
    seen = []
    for i, m in rows:
        inner = batch.keypoints[i, m, 4:13]  # away from the person's edge
        for x, y, weight in inner.tolist():
            if weight:
                seen.append(float(light[i, int(y), int(x)] - light[i].median()))
    assert np.mean(np.array(seen) > 0) > 0.9


def test_mirrored_people_change_sides():
    batch = _batch(STILL, 32)
    first = batch.keypoints[:, 0]
    slope = (first[:, 1, 0] - first[:, 2, 0]).sign()
    # Left eye and right eye lie on the diagonal in their order, and mirrored as well.
    mirrored = first[:, 0, 0] > SIDE / 2 + 4
    assert mirrored.any()
    assert not mirrored.all()
    assert (slope[mirrored] == -1).all() or (slope[mirrored] == 1).all()


def test_who_is_outside_becomes_a_doubt():
    batch = _batch(Strength(full_circle=0, turn=0, scale=(1, 1), shift=0.9, mosaic=0), 64)
    inside = (batch.boxes[:, 0, 2:] - batch.boxes[:, 0, :2]).prod(-1) / (40 * 90)
    assert (batch.kinds[:, 0][inside > 0.35] == PERSON).all()
    assert (batch.kinds[:, 0][(inside < 0.25) & (inside > 0.05)] == DOUBT).all()


def test_cells_near_a_person_answer_for_it_and_none_for_a_doubt():
    torch.manual_seed(0)
    network, batch = SmallPose(), _batch(STILL, 2)
    sizes = [(SIDE // s, SIDE // s) for s in (8, 16, 32)]
    with torch.no_grad():
        cells = network(batch.pictures)
        found = assign(cells, batch, sizes)
        assert set(found.image.tolist()) == {0, 1}
        answers = list(zip(found.image.tolist(), found.cell.tolist(), strict=True))
        assert len(set(answers)) == len(answers)
        kinds = torch.where(batch.kinds == PERSON, DOUBT, batch.kinds)
        doubts = Batch(
            batch.pictures, batch.boxes, batch.keypoints, batch.scores, kinds, batch.areas
        )
        assert not len(assign(cells, doubts, sizes).cell)


@pytest.mark.parametrize("often", [5, 25])
def test_a_score_becomes_how_often_somebody_is_there(often):
    """A cell that looks the same in 100 pictures and is somebody's in some of them."""
    logits = torch.zeros(1, 1, 2, requires_grad=True)
    no_people = torch.zeros(100, 1, dtype=torch.bool)
    rows, cell = torch.arange(often), torch.zeros(often, dtype=torch.long)
    found = Assigned(rows, cell, cell, torch.ones(often), no_people)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    empty = torch.zeros(100, 1, 1)
    for _ in range(200):
        optimizer.zero_grad()
        cells = Cells(torch.zeros(100, 1, 4), logits.expand(100, 1, 2), empty, empty)
        _score(cells, found, torch.ones(often)).backward()
        optimizer.step()
    score = float(logits.detach().sigmoid().prod())
    assert score == pytest.approx(often / 100, abs=0.01)


def test_every_weight_learns_and_a_pose_in_place_is_like_itself():
    torch.manual_seed(0)
    network, batch = SmallPose(), _batch(Strength(mosaic=0.5), 4)
    parts = losses(network, batch)
    torch.stack(list(parts.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    there = batch.kinds == PERSON
    alike = similarity(batch.keypoints[there], batch.keypoints[there], batch.areas[there])
    assert alike.min() == 1


def test_steps_make_the_losses_small_and_can_be_resumed():
    torch.manual_seed(0)
    recipe = Recipe(batch=2, strength=STILL, rate=2e-3, rate_start=2e-3)
    pool = Pool(_person(), torch.ones(1), "cpu")
    trainer = Trainer(SmallPose(), pool, recipe, PLAIN)
    sums = [sum(float(v.detach()) for v in trainer.step(i / 40).values()) for i in range(30)]
    assert np.mean(sums[-5:]) < 0.8 * np.mean(sums[:5])
    other = Trainer(SmallPose(), pool, recipe, PLAIN)
    other.restore(trainer.state())
    assert other.steps == 30
    for a, b in zip(trainer.average.parameters(), other.average.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_step_that_is_not_finite_changes_nothing():
    torch.manual_seed(0)
    data = _person()
    data.labels.areas[0, 0] = np.nan
    trainer = Trainer(SmallPose(), Pool(data, torch.ones(1), "cpu"), Recipe(batch=1), PLAIN)
    before = [p.clone() for p in trainer.network.parameters()]
    trainer.step(0.5)
    for a, b in zip(before, trainer.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_chances_are_by_data_set_and_falls_folders_share_theirs():
    one = _person()
    groups = ["coco", "coco", "coco", "Subject_1", "Subject_3", "Subject_3"]
    labels = Labels(*(np.repeat(value, len(groups), 0) for value in vars(one.labels).values()))
    labels.kinds[1] = 0  # nobody is there
    data = Data(
        np.repeat(one.pictures, len(groups), 0),
        labels,
        np.zeros(len(groups), np.uint8),
        np.array(groups),
    )
    chances = small._chances(data).numpy()
    assert chances[:3].sum() == pytest.approx(0.28)
    assert chances[1] == pytest.approx(0.35 * chances[0])
    assert chances[3:] == pytest.approx([0.045, 0.0225, 0.0225])


def test_a_complete_part_trains_no_more(tmp_path):
    (tmp_path / "small.json").write_text('{"complete": true}')
    given = ["--out", str(tmp_path), "--data", str(tmp_path / "none"), "--device", "cpu"]
    assert small.main(given) == 0
    with pytest.raises(FileNotFoundError):  # begins where it is not complete
        small.main([*given, "--tiny"])


def test_a_recording_is_on_one_side():
    sources = [f"fight/{i:08x}" for i in range(200)]
    held_out = np.mean([split_of(s) for s in sources])
    assert 0.05 < held_out < 0.2
    assert split_of("falls/Subject_2") != split_of("falls/Subject_1")


@needs_assets
def test_what_is_packed_comes_out_again(tmp_path):
    frame = np.full((234, 416, 3), 60, np.uint8)
    jpeg = cv2.imencode(".jpg", frame)[1]
    keypoints = np.full((1, 17, 3), 0.8, np.float32)
    keypoints[0, :, 0] = np.linspace(100, 140, 17)
    keypoints[0, :, 1] = np.linspace(60, 200, 17)
    arrays = {
        "boxes": np.array([[90, 50, 150, 210]], np.float32),
        "keypoints": keypoints,
        "scores": np.array([[0.8, 0.8, 0.4]], np.float32),
        "movenet": keypoints,
        "pose": np.zeros((1, 4), np.float32),
        "jpeg": jpeg,
    }
    labelled = tmp_path / "labelled"
    labelled.mkdir()
    np.savez(
        labelled / "a.npz",
        times=np.array([0.5]),
        source=np.array("fight/a"),
        video=np.array("fight_surv/Fight/a.mp4"),
        **{f"{name}_0": value for name, value in arrays.items()},
    )
    pack(tmp_path / "packed", labelled, ASSETS)
    data = load(tmp_path / "packed")
    assert data.pictures.shape[1:] == (416, 416, 3)
    assert abs(float(data.pictures[0, :200].mean()) - 60) < 3
    assert (data.pictures[0, 234:] == 114).all()
    assert data.labels.kinds[0].tolist() == [PERSON] + [0] * (SLOTS - 1)
    assert data.groups[:2].tolist() == ["fight_surv", "coco"]
    assert np.bincount(data.splits)[2] == 40


@needs_assets
def test_the_file_says_what_torch_says_and_stage_one_reads_it(tmp_path):
    torch.manual_seed(0)
    network = SmallPose()  # with the start it sees people, whose keypoints are anywhere
    load_start(network, read_start(ASSETS / "weights" / "yolox_nano.onnx"))
    weights, path = tmp_path / "small.pth", tmp_path / "small.onnx"
    torch.save({"state_dict": network.state_dict()}, weights)
    write(weights, path)
    found = OnnxNetwork(path, OnnxRuntimeOptions())
    assert PoseModelMetadata.of(found.metadata).kind == "rtmo"
    files = sorted((ASSETS / "coco" / "val2017").glob("*.jpg"))[:6]
    frames = [cv2.resize(cv2.imread(str(file)), (416, 416)) for file in files]
    pictures = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float()
    expected = SmallGraph(network, Suppression(0.1, 0.45, 100))(pictures)
    got = found.run({"input": pictures.numpy()})
    real = expected[0][..., 4].detach().numpy() > 0  # the rest fills up
    assert real.sum() > 3
    for name, reference in zip(("dets", "keypoints"), expected, strict=True):
        assert np.abs(got[name] - reference.detach().numpy())[real].max() < 0.05
    seen = RtmoPose(found, OnnxPoseConfig())([ArrayImage(frame) for frame in frames])
    assert sum(len(poses.box_scores) for poses in seen) > 3
