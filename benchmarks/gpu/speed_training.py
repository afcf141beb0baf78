"""Training steps of SDPose and ST-GCN++ on data that is on the device already.

A step is what mmengine does of one: forward, losses, backward, clipping, optimiser, by the
config's own OptimWrapper. Steps are waited for one by one. The peers run in the same process:
for SDPose the same network with mmpose's accuracy, which goes through the CPU, and mmengine's
AmpOptimWrapper as it comes (float16); for ST-GCN++ mmaction2's own STGCN.
"""

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from benchmarks import sdpose_step, train_step
from benchmarks.gpu._part import Options
from benchmarks.gpu._speed import Clock, MeasurementLog, number, percent, roofline, table
from recognizer.openmmlab import load_mmaction, load_mmpose, scope
from tests.action.checkpoints import BACKBONE

BATCHES = (256, 64, 512)
TINY_BATCHES = (2,)
TINY_DEPTH = 1  # blocks of the transformer
SLOTS, FRAMES, JOINTS, PRESENT = 4, 100, 17, 2
CLIP = 2.0  # of the gradients' norm, as the guide's config


@dataclass(frozen=True)
class Way:
    """How a step is run.

    Attributes:
        network: which, by name.
        dtype: ``fp32``, ``tf32``, ``fp16`` or ``bf16``.
        peer: as mmengine and mmpose or mmaction2 run it without this project.
        compiled: through torch.compile.

    """

    network: str
    dtype: str
    peer: bool = False
    compiled: bool = False

    @property
    def name(self) -> str:
        """Name of the row."""
        parts = [self.network, "mm*" if self.peer else "ours", self.dtype]
        return " ".join([*parts, "compiled"] if self.compiled else parts)

    @property
    def wrapper(self) -> dict[str, Any]:
        """What changes in the config's optim_wrapper."""
        if self.dtype in {"fp32", "tf32"}:
            return {}
        dtype = "bfloat16" if self.dtype == "bf16" else "float16"
        return {"type": "AmpOptimWrapper", "dtype": dtype}


SDPOSE = ("s_v1_stemnet", "s_v1_fsd_best")
POSE_WAYS = (
    *(Way(name, dtype) for dtype in ("bf16", "tf32", "fp32") for name in SDPOSE),
    Way("s_v1_stemnet", "tf32", peer=True),
    Way("s_v1_stemnet", "fp16", peer=True),
)
ACTION_WAYS = (
    Way("stgcnpp", "bf16"),
    Way("stgcnpp", "tf32"),
    Way("stgcnpp", "fp32"),
    Way("stgcnpp", "tf32", peer=True),
    Way("stgcnpp", "fp16", peer=True),
    Way("stgcnpp", "bf16", peer=True),
)
COMPILED = (
    Way("s_v1_stemnet", "bf16", compiled=True),
    Way("s_v1_fsd_best", "bf16", compiled=True),
    Way("stgcnpp", "bf16", compiled=True),
)
COMPILED_ON_CPU = (Way("s_v1_stemnet", "fp32", compiled=True),)


# --- SDPose ------------------------------------------------------------------------


class PoseSteps:
    """Steps of an SDPose network."""

    def __init__(self, device: str, *, tiny: bool) -> None:
        load_mmpose()
        self.device, self.tiny = device, tiny
        self.models: dict[str, Any] = {}
        self.rows: Any = None
        self.batch: tuple[int, Any] = (0, None)

    def step(self, way: Way, size: int) -> Callable[[], torch.Tensor]:
        """Return a call that does one step and returns its loss."""
        from mmengine.optim import build_optim_wrapper

        cfg = sdpose_step.config(way.network)
        if self.tiny:
            cfg.model.head.depth = TINY_DEPTH
        if way.network not in self.models:
            self.models[way.network] = sdpose_step.network(cfg)
        model = copy.deepcopy(self.models[way.network]).to(self.device).train()
        if way.compiled:  # block by block: one block is compiled and serves as all
            for part in (model.backbone, *model.head.transformer.blocks):
                part.compile(backend=backend(self.tiny))
        with scope("mmpose"):
            wrapper = build_optim_wrapper(model, cfg.optim_wrapper | way.wrapper)
        data = self.data(cfg, model, size)
        work = mmengine_step(model, wrapper, data["inputs"], data["data_samples"])
        return with_mmpose_accuracy(work) if way.peer else work

    def data(self, cfg: Any, model: Any, size: int) -> Any:
        """Return a batch on the device, normalised; made people, which cost what real ones do."""
        if self.rows is None:
            self.rows = sdpose_step.batch(cfg, None, min(size, 16))
        if self.batch[0] != size:
            own = {
                key: [copy.deepcopy(value[i % len(value)]) for i in range(size)]
                for key, value in self.rows.items()
            }
            self.batch = size, model.data_preprocessor(own, True)
        return self.batch[1]


def with_mmpose_accuracy(work: Callable[[], Any]) -> Callable[[], Any]:
    """Let a step compute its accuracy as mmpose's HeatmapHead does: on the CPU, by NumPy."""
    from mmpose.evaluation.functional import pose_pck_accuracy
    from mmpose.utils.tensor_utils import to_numpy

    def accuracy(heatmaps: Any, target: Any, present: Any) -> Any:
        _, average, _ = pose_pck_accuracy(
            output=to_numpy(heatmaps.float()), target=to_numpy(target), mask=to_numpy(present)
        )
        return torch.tensor(average, device=target.device)

    def step() -> Any:
        with mock.patch("recognizer.sdpose.head.pose_accuracy", accuracy):
            return work()

    return step


def mmengine_step(
    model: Any, wrapper: Any, inputs: torch.Tensor, samples: Any
) -> Callable[[], torch.Tensor]:
    """Return mmengine's train_step of data that is preprocessed already."""

    def step() -> torch.Tensor:
        with wrapper.optim_context(model):
            losses = model(inputs, samples, mode="loss")
        loss, _ = model.parse_losses(losses)
        wrapper.update_params(loss)
        detached: torch.Tensor = loss.detach()
        return detached

    return step


# --- ST-GCN++ ----------------------------------------------------------------------


class ActionSteps:
    """Steps of the guide's ST-GCN++: clips of 100 frames with room for 4 people, 2 there."""

    def __init__(self, device: str, *, tiny: bool) -> None:
        load_mmaction()
        from recognizer.action import registered

        self.registered, self.device, self.tiny = registered, device, tiny

    def step(self, way: Way, size: int) -> Callable[[], torch.Tensor]:
        """Return a call that does one step and returns its loss."""
        from mmaction.registry import MODELS
        from mmaction.structures import ActionDataSample
        from mmengine.optim import build_optim_wrapper

        # mmaction2's own head cannot be trained in bfloat16.
        head = "Float32GCNHead" if way.dtype == "bf16" else "GCNHead"
        kind = "STGCN" if way.peer else "FastSTGCN"
        logging.disable(logging.CRITICAL)  # mmengine logs every weight that it makes
        torch.manual_seed(0)
        with scope("mmaction"):
            model = MODELS.build(
                {
                    "type": "RecognizerGCN",
                    "backbone": {"type": kind, **BACKBONE},
                    "cls_head": {**train_step.HEAD, "type": head},
                }
            )
            model.init_weights()
            wrapper = build_optim_wrapper(
                model.to(self.device).train(),
                {
                    "type": "OptimWrapper",
                    "clip_grad": {"max_norm": CLIP},
                    "optimizer": {"type": "AdamW", "lr": 1e-4, "weight_decay": 1e-3},
                    **way.wrapper,
                },
            )
        if way.compiled:
            model.backbone.compile(backend=backend(self.tiny))
        samples = [ActionDataSample().set_gt_labels(i % 2).to(self.device) for i in range(size)]
        return mmengine_step(
            model, wrapper, clips(size, 8 if self.tiny else FRAMES).to(self.device), samples
        )


def clips(size: int, frames: int) -> torch.Tensor:
    """Return made skeletons (B, 1, people, frames, joints, 3); absent people are zeros."""
    random = torch.Generator().manual_seed(0)
    found = torch.randn(size, SLOTS, frames, JOINTS, 3, generator=random)
    found[:, PRESENT:] = 0
    return found.unsqueeze(1)


def backend(tiny: bool) -> str:
    """Return what torch.compile compiles with; the real one takes a minute on a CPU."""
    return "aot_eager" if tiny else "inductor"


# --- measuring ---------------------------------------------------------------------


def counted(step: Callable[[], torch.Tensor]) -> tuple[float, float]:
    """Do a step; return its loss and its floating-point operations, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        loss = step()
    return float(loss), float(counter.get_total_flops())


def measure_step(
    steps: Any, way: Way, size: int, log: MeasurementLog, clock: Clock
) -> dict[str, Any]:
    """Return a step's time, memory, FLOPs and first loss."""
    allowed = way.dtype != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        step = steps.step(way, size)
        torch.manual_seed(1)  # the same dropout in all ways
        first, flops = (float(step()), None) if way.compiled else counted(step)
        found: dict[str, Any] = {**clock.latencies(step)}
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = True
    found |= {
        "network": way.network,
        "way": way.name,
        "dtype": way.dtype,
        "batch": size,
        "peer": way.peer,
        "compiled": way.compiled,
        "first_loss": first,
        "per_s": size / found["p50_ms"] * 1e3,
        "flops": flops,
    }
    card = log.results.values.get("card", {})
    if flops:
        found |= roofline(found, card, way.dtype, flops, 0.0)
    return found


def key_of(way: Way, size: int) -> str:
    return f"step|{way.name}|{size}"


def compiled_ways(device: str) -> tuple[Way, ...]:
    """Return the compiled ways of a device."""
    return COMPILED if device.startswith("cuda") else COMPILED_ON_CPU


def keys_of(
    options: Options, ways: tuple[Way, ...], batches: tuple[int, ...] = BATCHES
) -> list[str]:
    """Return the keys of what is measured on this device."""
    batches = TINY_BATCHES if options.tiny else batches
    if not options.device.startswith("cuda"):
        ways = tuple(way for way in ways if on_cpu(way))
    return [key_of(way, size) for way in ways for size in batches]


def on_cpu(way: Way) -> bool:
    """Tell whether a CPU measures it in a dry run: no float16, no TF32, SDPose not in bfloat16."""
    if way.network == "stgcnpp":
        return way.dtype in {"fp32", "bf16"}
    return way.dtype == "fp32" or (way.peer and way.dtype == "tf32")


def run(
    log: MeasurementLog,
    clock: Clock,
    ways: tuple[Way, ...],
    make: Callable[..., Any],
    batches: tuple[int, ...] = BATCHES,
) -> None:
    """Measure the steps of these ways, batch after batch."""
    keys = keys_of(log.options, ways, batches)
    if log.late or log.has(keys):
        return
    tiny = log.options.tiny
    steps = log.build(make.__name__, lambda: make(log.options.device, tiny=tiny))
    for size in TINY_BATCHES if log.options.tiny else batches:
        for way in ways:
            if key_of(way, size) not in keys:
                continue
            work = lambda way=way, size=size: measure_step(steps, way, size, log, clock)  # noqa: E731
            log.measure(key_of(way, size), work)


def render(values: dict[str, Any]) -> str:
    """Return the table of the steps."""
    found = [one for key, one in values.items() if key.startswith("step|") and "per_s" in one]
    order = {"fp32": 0, "tf32": 1, "fp16": 2, "bf16": 3}
    found.sort(
        key=lambda one: (
            one["network"],
            one["batch"],
            not one["peer"],
            order[one["dtype"]],
            one["compiled"],
        )
    )
    rows = []
    for one in found:
        peers = [
            o
            for o in found
            if o["peer"]
            and o["batch"] == one["batch"]
            and o["network"].startswith(one["network"][:4])
        ]
        best = max((peer["per_s"] for peer in peers), default=None)
        rows.append(
            [
                one["way"],
                str(one["batch"]),
                number(one["p50_ms"]),
                number(one["p90_ms"]),
                number(one["per_s"]),
                f"{one['per_s'] / best:.2f} x" if best else "-",
                number(one["peak_mib"] / 1024),
                number(one.get("tflops")),
                percent(one.get("of_matmul")),
                f"{one['first_loss']:.6g}",
            ]
        )
    head = [
        "step",
        "batch",
        "p50 ms",
        "p90 ms",
        "samples/s",
        "against the best mm*",
        "peak GiB",
        "TFLOP/s",
        "of matmul",
        "first loss",
    ]
    return table(head, rows) if rows else ""
