"""A run's step is the Runner's train_step; its schedule is the config's."""

import copy
import time

import numpy as np
import pytest
import torch

from benchmarks.gpu import fsd, fsd_batch, fsd_report, fsd_run
from benchmarks.gpu.fsd_record import RUNNING, Clock, Record, is_whole
from recognizer.openmmlab import scope
from recognizer.sdpose.training import load_pose_config

RECIPE = fsd_run.Recipe(half=False, depth=1)
BEST = "fsd_best, gradient to teacher"
BY_NAME = {kind.name: kind for kind in fsd_run.KINDS}


def batch(size=2):
    """Return a batch of levels that a preprocessor would give, with real targets."""
    rng = np.random.default_rng(0)
    levels = torch.from_numpy(rng.integers(0, 256, (size, 3, 256, 192)).astype(np.float32))
    places = torch.from_numpy(rng.uniform((0, 0), (192, 256), (size, 17, 2)).astype(np.float32))
    return fsd_batch.Batch(
        fsd_batch.normalise(levels), *fsd_batch.targets(places, torch.ones(size, 17))
    ), levels


def make_run(name, shared=None):
    each = fsd_run.Run(BY_NAME[name], RECIPE, shared or batch()[0])
    each.reset(fsd_run.first_weights("published", 0, RECIPE))
    each.train(True)
    return each


@pytest.mark.parametrize("name", ["baseline", BEST])
def test_step_is_the_runners(name):
    from mmengine.optim import build_optim_wrapper
    from mmpose.registry import MODELS

    inputs, levels = batch()
    ours = make_run(name, inputs)
    cfg = load_pose_config(fsd_run.CONFIGS / f"sdpose_s_v1_{BY_NAME[name].config}_coco_256x192.py")
    cfg.model.head.depth = 1
    with scope("mmpose"):
        model = MODELS.build(cfg.model)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.load_state_dict(ours.model.state_dict())
    model.train()
    data = {"inputs": [each.flip(0) for each in levels], "data_samples": fsd_run.samples_of(inputs)}
    for _ in range(2):
        log = model.train_step(copy.deepcopy(data), wrapper)
        ours.set_progress(step=10**6, progress=0.0)
        ours.step()
    mean = ours.read()
    assert 0 < mean["max_token"] < 1000
    found, expected = ours.model.state_dict(), model.state_dict()
    moved = 0.0
    for key, start in fsd_run.first_weights("published", 0, RECIPE).items():
        assert torch.allclose(found[key].float(), expected[key].float(), atol=2e-5), key
        moved = max(moved, (expected[key] - start).abs().max().item())
    assert moved > 1e-3
    assert {"heatmap_loss", "vis_dist_loss", "kpt_dist_loss"} <= set(log)


def test_all_kinds_start_from_the_same_weights_and_only_the_teacher_differs():
    from mmpose.registry import MODELS

    weights = fsd_run.first_weights("published", 3, RECIPE)
    for kind in fsd_run.KINDS:
        cfg = fsd_run.configured(kind, RECIPE, torch.device("cpu"))
        with scope("mmpose"):
            model = MODELS.build(cfg.model)
        missing, unexpected = model.load_state_dict(weights, strict=False)
        assert not unexpected
        assert all("keypoint_logits" in each for each in missing)
        teachers = [
            model.head.loss_vis_token_dist.detach_teacher,
            model.head.loss_kpt_token_dist.detach_teacher,
        ]
        assert teachers == [
            kind.name.endswith("detached"),
            kind.name == "fsd_best, teacher detached",
        ]
        shipped = load_pose_config(fsd_run.CONFIGS / f"sdpose_s_v1_{kind.config}_coco_256x192.py")
        for loss in ("loss_vis_token_dist", "loss_kpt_token_dist"):
            with scope("mmpose"):
                assert MODELS.build(shipped.model.head[loss]).detach_teacher is False
    spread = fsd_run.first_weights("spread", 3, RECIPE)
    assert not torch.equal(
        spread["head.transformer.keypoint_tokens"], weights["head.transformer.keypoint_tokens"]
    )
    with pytest.raises(ValueError, match="published"):
        fsd_run.first_weights("zeros", 0, RECIPE)


def test_schedule_is_the_configs_by_share_of_the_training():
    each = make_run("fsd_dynamic, gradient to teacher")
    loss = each.model.head.loss_vis_token_dist
    seen = []
    for step, progress in ((0, 0.0), (50, 0.1), (100, 1 / 3), (900, 0.7), (999, 0.9)):
        each.set_progress(step, progress)
        seen.append((each.optimizer.param_groups[0]["lr"], *map(float, loss.weights())))
    rates, inside, outside = np.array(seen).T
    np.testing.assert_allclose(rates, [1e-6, 5.005e-4, 1e-3, 1e-4, 1e-5], rtol=1e-5)
    np.testing.assert_allclose(inside, [1, 1, 2, 3, 3], rtol=1e-5)
    np.testing.assert_allclose(outside, [1, 1, 0.65, 0.3, 0.3], rtol=1e-5)
    assert make_run(BEST).warmup == 2 * each.warmup == 200


def test_reset_begins_anew():
    each = make_run(BEST)
    each.set_progress(10**6, 0.0)
    results = []
    for _ in range(2):
        each.step()
        each.step()
        results.append(each.read())
        each.reset(fsd_run.first_weights("published", 0, RECIPE))
    assert results[0] == pytest.approx(results[1], rel=1e-5)
    assert each.read() == dict.fromkeys([*fsd_run.ITEMS, "max_token"], 0)


@pytest.mark.parametrize(
    ("losses", "step"),
    [((0.002, 1e-5, 1e-5), None), ((0.002, 0.0015, 0.001), 20), ((0.002, float("nan"), 0.0), 20)],
)
def test_running_away_is_distillation_above_the_heatmap_loss(losses, step):
    plain = dict(zip(fsd_run.ITEMS, (0.002, 0.0, 0.0), strict=True))
    later = dict(zip(fsd_run.ITEMS, losses, strict=True))
    windows = [{"step": 10, "runs": {"fsd": plain}}, {"step": 20, "runs": {"fsd": later}}]
    assert fsd_report.ran_away({"windows": windows}, "fsd") == step


def test_stuck_is_nobody_below_the_loss_of_empty_heatmaps():
    def record(*losses):
        runs = {str(i): {"heatmap_loss": loss} for i, loss in enumerate(losses)}
        return Record(list(runs), {"outcome": RUNNING}, [{"step": 1, "empty": 0.004, "runs": runs}])

    empty, learning = record(0.0039, 0.5, float("nan")), record(0.0039, 0.003)
    for each in (empty, learning):
        each.give_up_if_stuck(0.38)
    assert empty.about["outcome"] == "plateau of empty heatmaps at 38% of its time"
    assert learning.about["outcome"] == RUNNING
    assert [is_whole(each.about) for each in (empty, learning)] == [True, False]
    for each in (empty, learning):
        each.stop()
    assert is_whole(empty.about)
    assert learning.about["outcome"] == "stopped at its limit"
    assert not is_whole(learning.about)  # another call trains anew


def test_time_is_kept_for_the_last_evaluation_as_they_turn_out_to_be_long():
    now = time.monotonic()
    clock = Clock(now + 70, steps=0, reserve=12.0, begun=now - 30)
    assert clock.progress(5) == pytest.approx(30 / 88, abs=0.01)
    clock.keep(2.0)
    assert clock.reserve == 12
    clock.keep(17.0)
    assert clock.reserve == 2 * 17 + 6
    assert clock.progress(5) == pytest.approx(30 / 60, abs=0.01)
    assert not clock.over
    assert Clock(now + 5, steps=9, reserve=12.0).over


class Oracle:
    """Gives the true heatmaps of measured people, batch after batch."""

    def __init__(self, people):
        self.people, self.shown = people, 0

    def train(self, training):
        self.training = training

    def heatmaps(self, images):
        rows = slice(self.shown, self.shown + len(images))
        self.shown += len(images)
        moved = fsd_batch.move(self.people.keypoints[rows], self.people.matrices[0, rows])
        return fsd_batch.targets(moved, self.people.visible[rows])[0]


def test_true_heatmaps_are_measured_as_perfect():
    rng = np.random.default_rng(0)
    count = fsd.CHUNK + 2  # two batches
    keypoints = rng.uniform((40, 40), (100, 130), (count, 17, 2)).astype(np.float32)
    boxes = np.tile(np.array([30, 25, 110, 145], np.float32), (count, 1))
    centre, width = fsd_batch.box_regions(boxes)
    notes = {
        "keypoints": keypoints.copy(),
        "visible": np.ones((count, 17), np.uint8),
        "area": np.full(count, 8000.0),
        "image": np.arange(count) // 2,
        "origin": rng.uniform(0.5, 2, (count, 4)).astype(np.float32),
    }
    people = fsd_batch.People(
        torch.zeros(count, 3, 8, 8, dtype=torch.uint8),
        torch.from_numpy(keypoints),
        torch.ones(count, 17),
        torch.from_numpy(fsd_batch.warp_matrices(centre, width, np.zeros(count)))[None].float(),
        torch.zeros(1, count, dtype=torch.bool),
        notes,
    )
    shared = fsd.SharedData(None, {"people": people}, None, torch.device("cpu"))
    oracle = Oracle(people)
    assert fsd.evaluate(shared, oracle) == {"people_ap": 1, "people_ap50": 1, "people_pck": 1}
    assert oracle.training
    people.keypoints[::2] += 40  # every other person's truth moves away from the notes
    assert fsd.evaluate(shared, Oracle(people))["people_pck"] < 0.7
