"""Mode train.check: run some iterations of a training and check losses, gradients and heatmaps.

It is the training itself, with the config's own model, data, schedule and hooks, in a temporary
folder; faults end it with a message and a remedy.
"""

import logging
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch loads: at a barrier its threads would otherwise spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


from torch import Tensor, nn

from recognizer.command import next_command
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.runner.engine import Batch, Hook, Losses, Runner
from recognizer.runs.distributed import main_process_progress
from recognizer.runs.progress import ProgressFactory
from recognizer.training.pose.diagnostics import (
    ALIKE,
    FLAT,
    check_heatmaps,
    cost_lines,
    data_lines,
    has_heatmaps,
    heatmaps_of,
    memory,
    validated,
)
from recognizer.training.pose.train import (
    check_weights,
    image_progress,
    memory_advice,
    pose_config,
    prepare,
)

if TYPE_CHECKING:
    from mmengine.config import Config as PoseConfig

logger = logging.getLogger(__name__)

_NEVER = 10**9
_FALL = 1e-3  # less is no fall: sums in another order differ, too
_RTMO_ITEMS = ("loss_cls", "loss_bbox", "loss_vis", "loss_mle", "loss_oks")
_NAMED = 8  # of many equal faults, how many a message names


class PoseCheckError(RuntimeError):
    """Faults that train.check found."""


class _EnoughError(Exception):
    """All iterations are done; never leaves this module."""


def check(config: Config, progress: ProgressFactory) -> int:
    """Run ``train.check_iterations`` iterations and check them (``--mode train.check``).

    Raises:
        ConfigError: no such config, or none that a training can be built of.
        PoseCheckError: faults in the iterations; each is named.
        FileNotFoundError, ValueError: faulty data.

    """
    path = pose_config(config)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("train.check looks at one process: start it with python, not torchrun")
    cfg = prepare(config, path)
    check_weights(cfg)
    examiner = SanityCheckHook(config.train.check_iterations, expected_items(cfg))
    with tempfile.TemporaryDirectory(prefix="recognizer_check_") as folder:
        cfg.work_dir = folder
        _shorten(cfg, examiner.iterations)
        try:
            _run(cfg, examiner, progress)
        except RuntimeError as error:
            if advice := memory_advice(error, cfg):
                raise PoseCheckError(advice) from error
            raise
    for line in examiner.report():
        logger.info("%s", line)
    for warning in examiner.warnings():
        logger.warning("%s", warning)
    if faults := examiner.faults():
        raise PoseCheckError(f"{path.name}: {len(faults)} found wrong\n- " + "\n- ".join(faults))
    logger.info("nothing is wrong after %d iterations", examiner.iterations)
    logger.info("next: %s", next_command(config, "train.pose"))
    return 0


def expected_items(cfg: "PoseConfig") -> list[str]:
    """Return the loss items that the config's head must return."""
    head = cfg.model.get("head") or {}
    if head.get("type") == "RTMOHead":
        return [*_RTMO_ITEMS]
    optional = {"vis_dist_loss": "loss_vis_token_dist", "kpt_dist_loss": "loss_kpt_token_dist"}
    return ["heatmap_loss", *(item for item, key in optional.items() if head.get(key) is not None)]


def _shorten(cfg: "PoseConfig", iterations: int) -> None:
    """Disable validation and saving, and make the training long enough."""
    key = "max_epochs" if cfg.train_cfg.get("by_epoch", True) else "max_iters"
    cfg.train_cfg[key] = max(cfg.train_cfg.get(key) or 0, iterations + 1)
    cfg.train_cfg.val_begin = _NEVER
    cfg.update(resume=False, resume_from=None)
    cfg.default_hooks = {**(cfg.get("default_hooks") or {}), "checkpoint": None}
    if "visualizer" in cfg:
        cfg.visualizer.vis_backends = []


def _run(cfg: "PoseConfig", examiner: "SanityCheckHook", progress: ProgressFactory) -> None:
    from recognizer.runner.hooks import NotFiniteError
    from recognizer.runner.train_config import TrainConfigError
    from recognizer.sdpose.evaluation import quietly
    from recognizer.sdpose.training import train

    try:
        with (
            main_process_progress(Path(cfg.work_dir), progress, "checking") as on_progress,
            image_progress(progress) as on_image,
            quietly(),
        ):

            def count(done: int, total: int) -> None:
                if on_progress is not None:
                    on_progress(done, examiner.iterations)

            train(cfg, on_progress=count, hooks=[examiner], on_image=on_image)
    except _EnoughError:
        return
    except NotFiniteError:
        if not examiner.faults():
            raise
    except TrainConfigError as error:
        if advice := memory_advice(error, cfg):
            raise PoseCheckError(advice) from error
        raise ConfigError(f"train.config_file, train.cfg_options: {error}") from error


# --- observations --------------------------------------------------------------------


@dataclass
class Observations:
    """Observations of the iterations.

    Attributes:
        items: the values of each loss item, by iteration.
        gradients: of each trainable parameter, the largest gradient of all iterations, a scalar
            on its device; None where there was none.
        frozen: how many parameters are not trained at all.
        waits_s: seconds until each batch was there.
        steps_s: seconds of each forward, backward and step.
        flat: joints whose heatmaps are the same everywhere, for every person.
        alike: spread over people divided by spread over places; None if unknown.
        lines: further lines for the log.

    """

    items: dict[str, list[float]] = field(default_factory=dict)
    gradients: dict[str, Tensor | None] = field(default_factory=dict)
    frozen: int = 0
    waits_s: list[float] = field(default_factory=list)
    steps_s: list[float] = field(default_factory=list)
    flat: list[int] = field(default_factory=list)
    alike: float | None = None
    lines: list[str] = field(default_factory=list)


class SanityCheckHook(Hook):
    """Records losses, gradients and times, and checks heatmaps and decoding at the end."""

    priority = "HIGHEST"  # before the hooks that stop at NaN

    def __init__(self, iterations: int, expected: Sequence[str]) -> None:
        self.iterations, self.expected = iterations, expected
        self.seen = Observations()
        self.last = 0.0

    def before_train(self, runner: Runner) -> None:
        """Register a listener for the gradient of every parameter."""
        for name, parameter in runner.model.named_parameters():
            if parameter.requires_grad:
                self.seen.gradients[name] = None
                parameter.register_post_accumulate_grad_hook(self._listener(name))
            else:
                self.seen.frozen += parameter.numel()
        self.last = time.monotonic()

    def _listener(self, name: str) -> Callable[[nn.Parameter], None]:
        def listen(parameter: nn.Parameter) -> None:
            if parameter.grad is None:
                return
            # NaN, which half precision gives now and then before its scale is found, is one too.
            largest, before = parameter.grad.detach().abs().max(), self.seen.gradients[name]
            self.seen.gradients[name] = largest if before is None else before.maximum(largest)

        return listen

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Batch = None) -> None:
        """Record the time until the batch was there."""
        now = time.monotonic()
        self.seen.waits_s.append(now - self.last)
        self.last = now

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Losses = None
    ) -> None:
        """Record the losses; after the last iteration check heatmaps and decoding.

        Raises:
            _EnoughError: this was the last iteration.

        """
        for name, value in (outputs or {}).items():
            if "loss" in name:
                self.seen.items.setdefault(name, []).append(float(value.detach()))
        now = time.monotonic()
        self.seen.steps_s.append(now - self.last)
        self.last = now
        if runner.iter + 1 < self.iterations or not all(map(_is_finite, self.seen.items.values())):
            return
        model = getattr(runner.model, "module", runner.model)
        batch = dict(data_batch or {})
        self.seen.lines += [*data_lines(runner, batch), *cost_lines(model, batch)]
        if has_heatmaps(model):
            self.seen.flat, self.seen.alike = check_heatmaps(heatmaps_of(model, batch))
        self.seen.lines += validated(runner)
        raise _EnoughError

    # --- results -------------------------------------------------------------------------

    def report(self) -> list[str]:
        """Return the observations as lines."""
        seen = self.seen
        lines = [*seen.lines, "loss item: min .. max, first -> last"]
        lines += [
            f"  {name}: {min(values):.6g} .. {max(values):.6g}, {values[0]:.6g} -> {values[-1]:.6g}"
            for name, values in seen.items.items()
        ]
        nonzero = [g for g in seen.gradients.values() if g is not None and g != 0]
        frozen = f", {seen.frozen} numbers are frozen" if seen.frozen else ""
        lines.append(
            f"gradients: {len(nonzero)} of {len(seen.gradients)} parameters have one{frozen}"
        )
        step, wait = _usual(seen.steps_s), _usual(seen.waits_s)
        lines.append(
            f"{step + wait:.3f} s per iteration: {step:.3f} s of work after {wait:.3f} s "
            f"of waiting for data; {memory()}"
        )
        if seen.alike is not None:
            lines.append(
                f"heatmaps differ between people by {seen.alike:.2g} of what they differ "
                "between places"
            )
        return lines

    @property
    def _one_stage(self) -> bool:
        """Whether layers of one size of people learn nothing from others (RTMO)."""
        return "loss_oks" in self.expected

    def warnings(self) -> list[str]:
        """Return possible faults."""
        warnings = []
        values = self.seen.items.get("heatmap_loss", [])
        if len(values) > 1 and min(values[1:]) > values[0] * (1 - _FALL):
            warnings.append(
                f"heatmap_loss has not fallen in {len(values)} iterations; during a long warm-up "
                "the rate is still small: look again with more --iterations before training"
            )
        for name in self.expected:
            if (values := self.seen.items.get(name, [])) and not any(values):
                warnings.append(f"{name} is 0 in every iteration: is its loss_weight 0?")
        if self._one_stage and (names := _zero(self.seen.gradients)):
            warnings.append(
                f"{len(names)} parameters get a gradient of exactly 0, such as {names[0]}: people "
                "of one size only were in these iterations, or few people; look again with more "
                "--iterations"
            )
        return warnings

    def faults(self) -> list[str]:
        """Return the faults, each with a remedy."""
        items = self.seen.items
        faults = [
            f"loss item {name}: expected it of this config, but the head gives only "
            f"{', '.join(items) or 'none'}; look at model.head.type and at its loss()"
            for name in self.expected
            if items and name not in items
        ]
        for name, values in items.items():
            if not _is_finite(values):
                at = next(i for i, value in enumerate(values) if not math.isfinite(value))
                faults.append(
                    f"loss item {name}: is {values[at]} at iteration {at + 1}; look at the loss of "
                    "this name, lower optim_wrapper.optimizer.lr, or set optim_wrapper.clip_grad"
                )
        if faults and not all(map(_is_finite, items.values())):
            return faults  # further faults follow from NaN
        gradients = self.seen.gradients
        if self._one_stage:
            zero = _zero(gradients)
            gradients = {name: value for name, value in gradients.items() if name not in zero}
        return [*faults, *_without_gradient(gradients), *_degenerate(self.seen)]


def _is_finite(values: Sequence[float]) -> bool:
    return all(map(math.isfinite, values))


def _usual(seconds: Sequence[float]) -> float:
    """Return the median without the first, in which everything is set up."""
    return statistics.median(seconds[1:] or seconds)


def _zero(gradients: Mapping[str, Tensor | None]) -> list[str]:
    """Return the names of parameters whose gradient is exactly 0 in every iteration."""
    return [name for name, largest in gradients.items() if largest is not None and largest == 0]


def _without_gradient(gradients: Mapping[str, Tensor | None]) -> list[str]:
    """Return faults of trainable parameters without a gradient."""
    faults = []
    for text, names in (
        (
            "no gradient: the loss does not depend on them",
            [name for name, largest in gradients.items() if largest is None],
        ),
        ("a gradient of exactly 0 in every iteration", _zero(gradients)),
    ):
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            faults.append(
                f"{len(names)} parameters get {text}: {', '.join(names[:_NAMED])}{more}; use them, "
                "take them out, or freeze them (requires_grad=False)"
            )
    return faults


def _degenerate(seen: Observations) -> list[str]:
    faults = []
    if seen.flat:
        joints = ", ".join(map(str, seen.flat))
        faults.append(
            f"heatmaps of joints {joints}: the same value everywhere (within {FLAT:g}), so that no "
            "keypoint can be found in them; look at the head's last layer, its initialisation and "
            "load_from"
        )
    elif seen.alike is not None and seen.alike < ALIKE:
        faults.append(
            "heatmaps: the same for every person of a batch (their differences are "
            f"{seen.alike:.1g} of those between places, expected at least {ALIKE:g}): the picture "
            "does not reach the head; look at the backbone's initialisation, load_from and the "
            "pictures"
        )
    return faults
