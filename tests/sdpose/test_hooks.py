"""The monitoring hooks in real runs of mmengine, on losses that the data set gives away."""

import math
import re
import statistics

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmpose")

from mmengine.evaluator import Evaluator  # noqa: E402
from mmengine.model import BaseModel  # noqa: E402
from mmengine.registry import HOOKS  # noqa: E402
from mmengine.runner import Runner  # noqa: E402

from recognizer.openmmlab import scope  # noqa: E402
from recognizer.runner.hooks import PlainCheckpointHook  # noqa: E402
from recognizer.sdpose import hooks  # noqa: E402
from recognizer.sdpose.losses import DynamicForegroundDistilLoss  # noqa: E402
from tests.runner.small_runs import GivenAP, loader  # noqa: E402

CALM = [1.0, 1.2, 0.8, 1.0, 1.1, 0.9, 1.0, 1.0]


class Scale(BaseModel):
    """One weight that stays at 0, so that the loss is the target."""

    def __init__(self, distilled=0.25):
        super().__init__()
        self.distilled = distilled  # how much of the loss is distillation
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, target, mode="tensor"):
        if mode == "predict":
            return [None]
        error = target.mean() + self.weight.square().sum()
        taught, rest = self.distilled * error, (1 - self.distilled) * error
        return {"heatmap_loss": rest, "vis_dist_loss": taught, "acc_pose": error}


def build(folder, hook, losses=CALM, aps=None, **options):
    """Return a runner of one epoch over ``losses``, or as many as there are ``aps``."""
    validated = (
        {
            "val_dataloader": loader([0.0]),
            "val_cfg": {"type": "ValLoop"},
            "val_evaluator": Evaluator([GivenAP(aps)]),
        }
        if aps
        else {}
    )
    epochs = options.pop("epochs", len(aps or [0]))
    return Runner(
        **{
            "model": Scale(),
            "work_dir": str(folder),
            "train_dataloader": loader(losses),
            "train_cfg": {"by_epoch": True, "max_epochs": epochs},
            "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.0}},
            "default_scope": "mmpose",
            "custom_hooks": [hook, {"type": PlainCheckpointHook}],
            **validated,
            # Of its own: mmengine gives runners of one name and second one message hub.
            "experiment_name": str(folder).replace("/", "_"),
            **options,
        }
    )


def log_of(folder):
    return "\n".join(path.read_text() for path in sorted(folder.glob("*/*.log")))


def monitor(**options):
    return {"type": "TrainingMonitorHook", **options}


def train(folder, hook, *args, **options):
    runner = build(folder, hook, *args, **options)
    runner.train()
    return runner, log_of(folder)


def the(runner, kind=hooks.TrainingMonitorHook):
    return next(hook for hook in runner.hooks if isinstance(hook, kind))


def stats_of(folder):
    text = (folder / "training_stats.txt").read_text()
    return {
        key: float(value) for key, value in re.findall(r"([A-Z][\w ]+): (-?[\d.e-]+|nan)", text)
    }


def test_configs_of_mmpose_find_both():
    with scope("mmpose"):
        assert isinstance(HOOKS.build(monitor()), hooks.TrainingMonitorHook)
        built = HOOKS.build({"type": "DetailedLossLogHook", "interval": 7})
    assert isinstance(built, hooks.DetailedLossLogHook)


# --- warnings ---------------------------------------------------------------------


def test_a_spike_is_reported_with_its_ratio_and_only_once_an_interval(tmp_path):
    losses = [1.0] * 20 + [2.5, 9.0, 1.0, 1.0]
    _, log = train(tmp_path, monitor(interval=4), losses)
    assert log.count("WARNING: Loss spike detected!") == 1
    expected = "   Iteration: 21\n   Current: 2.5\n   Recent avg: 1\n   Ratio: 2.50x\n"
    assert expected in log


@pytest.mark.parametrize(
    ("losses", "spikes"),
    [
        pytest.param([1, 1, 1, 1, 1, 2.0], 1, id="just twice"),
        pytest.param([1, 1, 1, 1, 1, 1.99], 0, id="just not"),
        pytest.param([1, 1, 1, 1, 5], 0, id="too early"),
        pytest.param([9, 1, 1, 1, 1, 1, 2.0], 1, id="the oldest is forgotten"),
        pytest.param([9, 1, 1, 1, 1, 2.0], 0, id="five and no fewer"),
        pytest.param([1, 1, math.nan, 1, 1, 1, 2.0], 1, id="NaN is no usual loss"),
        pytest.param([0, 0, 0, 0, 0, 0], 0, id="zero"),
        pytest.param([5, 4, 3, 2, 1, 0.5], 0, id="falling"),
    ],
)
def test_a_spike_is_twice_the_mean_of_the_last_five(tmp_path, losses, spikes):
    _, log = train(tmp_path, monitor(interval=1), [float(loss) for loss in losses])
    assert log.count("Loss spike detected") == spikes


@pytest.mark.parametrize(("distilled", "warnings"), [(0.49, 0), (0.75, 2)])
def test_distillation_above_the_heatmap_loss_is_reported_once_an_interval(
    tmp_path, distilled, warnings
):
    _, log = train(tmp_path, monitor(interval=4), model=Scale(distilled))
    assert log.count("WARNING: Distillation exceeds the heatmap loss!") == warnings
    if warnings:
        assert "   Iteration: 4\n   Distillation: 0.75\n   Heatmaps: 0.25\n" in log
        assert "detach_teacher=False" in log


def test_a_drop_of_the_ap_is_reported_against_the_best_one(tmp_path):
    runner, log = train(tmp_path, monitor(), aps=[0.6, 0.72, 0.68, 0.67, 0.7])
    assert log.count("WARNING: Performance drop detected!") == 1
    assert "   Current AP: 0.6700\n   Best AP: 0.7200\n   Drop: 0.0500\n" in log
    assert the(runner).best_ap == 0.72
    assert stats_of(tmp_path)["Best AP"] == 0.72


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_reported_and_does_not_spoil_the_statistics(tmp_path, value):
    _, log = train(tmp_path, monitor(), [1.0, value, value, 3.0])
    assert log.count("WARNING: NaN or Inf loss detected!") == 1
    assert f"   Iteration: 2\n   Losses: loss: {value}, heatmap_loss: {value}" in log
    stats = stats_of(tmp_path)
    assert (stats["Mean"], stats["Max"], stats["Final"]) == (2, 3, 3)
    assert (stats["Iterations"], stats["NaN or Inf"]) == (4, 2)


def test_an_ap_that_is_no_number_is_reported_and_is_not_the_best(tmp_path):
    runner, log = train(tmp_path, monitor(), aps=[math.nan, 0.3])
    assert log.count("NaN or Inf AP detected") == 1
    assert the(runner).best_ap == 0.3


def test_a_metric_that_no_validation_gives_is_reported(tmp_path):
    _, log = train(tmp_path, monitor(metric="coco/ap"), aps=[0.5])
    assert "WARNING: no metric 'coco/ap'\n   Found: ['coco/AP'" in log


def test_a_calm_run_is_not_warned_of(tmp_path):
    _, log = train(tmp_path, monitor(interval=1), aps=[0.5, 0.52, 0.51])
    assert "WARNING: " not in log


def test_a_model_without_a_loss_is_refused():
    with pytest.raises(ValueError, match=r"expected 'loss' in the outputs.*got \['acc'\]"):
        hooks.TrainingMonitorHook().after_train_iter(None, 0, outputs={"acc": 1.0})


@pytest.mark.parametrize(
    "options",
    [
        {"interval": 0},
        {"interval": 1.5},
        {"window": 0},
        {"spike_ratio": 1},
        {"ap_drop": 0},
        {"spike_ratio": math.nan},
        {"ap_drop": math.nan},
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options):
    with pytest.raises(ValueError, match=f"TrainingMonitorHook: {next(iter(options))}: expected"):
        hooks.TrainingMonitorHook(**options)


# --- statistics -------------------------------------------------------------------


def test_the_file_has_the_layout_of_the_guide(tmp_path):
    train(tmp_path, monitor(), [0.001, 0.002, 0.0035], aps=[0.7234])
    assert (tmp_path / "training_stats.txt").read_text() == (
        f"Training Statistics\n{'=' * 80}\n\nLoss Statistics:\n  - Mean: 0.00216667\n"
        "  - Std: 0.0010274\n  - Min: 0.001\n  - Max: 0.0035\n  - Final: 0.0035\n"
        "  - Iterations: 3\n\nBest AP: 0.7234\n"
    )
    assert not list((tmp_path / ".scratch").iterdir())


def test_every_iteration_counts(tmp_path):
    losses = [0.5 + 0.01 * (i * 37 % 101) for i in range(60)]
    runner, _ = train(tmp_path, monitor(interval=50), losses, epochs=2)
    stats = stats_of(tmp_path)
    assert stats["Iterations"] == 120
    assert stats["Mean"] == pytest.approx(statistics.fmean(losses), rel=1e-5)
    assert stats["Std"] == pytest.approx(statistics.pstdev(losses), rel=1e-5)
    assert (stats["Min"], stats["Max"]) == pytest.approx((min(losses), max(losses)), rel=1e-5)
    assert stats["Final"] == pytest.approx(losses[-1], rel=1e-5)
    assert the(runner).stats.count == 120


def test_without_a_validation_there_is_no_best_ap(tmp_path):
    train(tmp_path, monitor())
    assert "\nBest AP: none yet\n" in (tmp_path / "training_stats.txt").read_text()


def test_the_file_is_there_after_the_first_epoch_and_new_after_each(tmp_path):
    seen = []

    class Look(hooks.Hook):
        priority = "LOWEST"

        def after_train_epoch(self, runner):
            seen.append(stats_of(tmp_path)["Iterations"])

    runner = build(tmp_path, monitor(), epochs=3)
    runner.register_hook(Look())
    runner.train()
    assert seen == [8, 16, 24]


def test_only_the_main_process_writes_and_warns(tmp_path):
    runner = build(tmp_path, monitor(interval=1), [1.0] * 8 + [9.0])
    runner._rank = 1
    runner.train()
    assert the(runner).stats.count == 9
    assert not (tmp_path / "training_stats.txt").exists()
    assert "Loss spike" not in log_of(tmp_path)


def test_a_validation_alone_leaves_the_file_as_it_is(tmp_path):
    (tmp_path / "training_stats.txt").write_text("of the training")
    build(tmp_path, monitor(), aps=[0.4]).val()
    assert (tmp_path / "training_stats.txt").read_text() == "of the training"


# --- resuming ---------------------------------------------------------------------


def plain(value):
    """Tell whether a value is made of plain numbers only."""
    if isinstance(value, dict | list):
        return all(plain(item) for item in (value.values() if isinstance(value, dict) else value))
    return type(value) in (int, float)


def test_the_state_survives_a_checkpoint_that_holds_no_code(tmp_path):
    runner, _ = train(tmp_path, monitor(interval=3), aps=[0.4, 0.5])
    saved = {"meta": {"iter": runner.iter}}
    the(runner).before_save_checkpoint(runner, saved)
    assert plain(saved[hooks.STATE])
    torch.save(saved, tmp_path / "state.pth")
    loaded = torch.load(tmp_path / "state.pth", weights_only=True)
    again = hooks.TrainingMonitorHook(interval=3)
    again.after_load_checkpoint(runner, loaded)
    again.before_train(runner)
    assert again.stats == the(runner).stats
    assert (again.best_ap, list(again.recent)) == (0.5, list(the(runner).recent))
    assert (again.sum, again.count) == (the(runner).sum, the(runner).count)


def test_a_resumed_run_ends_with_the_statistics_of_a_straight_one(tmp_path):
    straight, half = tmp_path / "straight", tmp_path / "half"
    losses = [*CALM, 7.0, 1.3, 1.1]  # 11 an epoch: intervals of 4 end inside of epochs
    aps = [0.5, 0.6, 0.55, 0.58]
    train(straight, monitor(interval=4), losses, aps=aps)
    train(half, monitor(interval=4), losses, aps=aps[:2])
    # The checkpoint is from before its epoch was validated, so that this is done again.
    train(half, monitor(interval=4), losses, aps=aps[1:], epochs=4, resume=True)
    assert stats_of(half) == stats_of(straight)
    assert stats_of(half)["Iterations"] == 44
    assert stats_of(half)["Best AP"] == 0.6
    assert log_of(half).count("WARNING: Loss spike") == log_of(straight).count("WARNING: Loss")


def test_a_run_from_the_weights_of_another_starts_its_own_statistics(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    train(first, monitor())
    runner, _ = train(second, monitor(), [3.0], load_from=str(first / "epoch_1.pth"))
    assert the(runner).stats == hooks.LossStatistics(1, 3.0, 0.0, 3.0, 3.0, 3.0)


# --- every loss item --------------------------------------------------------------


def test_every_loss_item_is_logged_every_so_often(tmp_path):
    _, log = train(
        tmp_path, {"type": "DetailedLossLogHook", "interval": 3}, [4.0, 4, 2, 4, 4, 8e-4]
    )
    lines = re.findall(r"Iter \[.*", log)
    assert lines == [
        "Iter [3] loss: 2.000000, heatmap_loss: 1.500000, vis_dist_loss: 0.500000",
        "Iter [6] loss: 0.0008, heatmap_loss: 0.0006, vis_dist_loss: 0.0002",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.345678, "2.345678"),
        (0, "0.000000"),
        (0.000123456, "0.0001235"),
        (1.2345e-6, "1.234e-06"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
    ],
)
def test_small_losses_keep_their_digits(tmp_path, value, text):
    assert hooks.digits(value) == text


def test_an_interval_of_nothing_is_refused():
    with pytest.raises(ValueError, match="DetailedLossLogHook: interval: expected"):
        hooks.DetailedLossLogHook(interval=0)


# --- the schedule of the dynamic loss in a run ------------------------------------


class Scheduled(Scale):
    """Notes how far the schedule is at each step."""

    def __init__(self):
        super().__init__()
        self.distil = DynamicForegroundDistilLoss(start_epoch=1, end_epoch=5)
        self.seen = []

    def forward(self, target, mode="tensor"):
        self.seen.append(self.distil.progress())
        return super().forward(target, mode)


def test_the_epoch_reaches_the_dynamic_loss_in_training_and_after_resume(tmp_path):
    def run(name, epochs, **options):
        runner = build(
            tmp_path / name, monitor(), [1.0], epochs=epochs, model=Scheduled(), **options
        )
        runner.train()
        return runner.model.seen

    straight = run("straight", 6)
    assert straight == [0, 0, 0.25, 0.5, 0.75, 1]
    assert run("half", 3) + run("half", 6, resume=True) == straight
