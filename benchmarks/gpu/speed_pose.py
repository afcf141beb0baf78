"""Speed from pixels to poses: RTMO from 720p frames, SDPose from people's boxes.

RtmoPose and TopDownPose over the backend ``pth``. A call begins with BGR arrays in the CPU's
memory and ends with Poses there. Weights are from a seed, and find about as many people as are
there. What an option may not change is compared with the network without it.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from benchmarks.gpu import _networks
from benchmarks.gpu._speed import MS, Clock, MeasurementLog, cost, roofline
from recognizer.backends.metadata import Thresholds
from recognizer.backends.torch import TrainedPose, open_graph, with_options
from recognizer.backends.torch_network import TorchNetwork, to_host
from recognizer.config.models import TopDownConfig, TorchPoseConfig
from recognizer.geometry import LETTERBOX_GREY, Letterbox
from recognizer.pose.detector import Boxes, LetterboxBatch
from recognizer.pose.rtmo import RtmoPose
from recognizer.pose.topdown import TopDownPose
from recognizer.types import Image, Poses
from recognizer.video.array_image import ArrayImage

FRAME_WH = (1280, 720)
BATCHES, CROP_BATCHES = (1, 8, 32), (32, 128)
TINY_BATCHES, TINY_SIDE = (2,), 96
COMPARED = 8
"""Frames, or people, that a mode is compared on."""


@dataclass(frozen=True)
class Mode:
    """How a network is run.

    Attributes:
        dtype: ``fp32``, ``fp16`` or ``bf16``.
        options: keys of ``models.pose_estimation.pth``.
        resize: frames travel whole and are letterboxed on the GPU.
        tuned: cuDNN tries its algorithms on the shapes (``cudnn.benchmark``).

    """

    dtype: Literal["fp32", "fp16", "bf16"]
    options: tuple[str, ...] = ()
    resize: bool = False
    tuned: bool = False

    @property
    def name(self) -> str:
        """Name of the row."""
        own = [one.replace("_input", "").replace("_", "-") for one in self.options]
        more = [
            text for text, there in (("GPU resize", self.resize), ("tuned", self.tuned)) if there
        ]
        return ", ".join([self.dtype, *own, *more])

    def section(self, device: str, batches: tuple[int, ...]) -> TorchPoseConfig:
        """Return the config's section."""
        keys: dict[str, Any] = dict.fromkeys(self.options, True)
        return TorchPoseConfig(
            device=device,
            precision=self.dtype,
            static_batch=list(batches),
            score_threshold=_networks.SCORE,
            nms_threshold=_networks.NMS,
            keypoint_threshold=0.0,
            max_detections=_networks.MOST,
            **keys,
        )


LAST, BYTES, GRAPH = "channels_last", "uint8_input", "cuda_graph"
RTMO_MODES = (
    Mode("fp32"),
    Mode("fp16", (LAST, BYTES, GRAPH)),
    Mode("fp16"),
    Mode("fp16", (LAST, BYTES, GRAPH), resize=True),
    Mode("fp16", (LAST,)),
    Mode("fp16", (LAST, BYTES)),
    Mode("bf16", (LAST, BYTES, GRAPH)),
    Mode("fp16", (LAST, BYTES, GRAPH), tuned=True),
    Mode("bf16"),
    Mode("fp32", (BYTES, GRAPH)),
)
SDPOSE_MODES = (
    Mode("fp32"),
    Mode("bf16"),
    Mode("bf16", (BYTES,)),
    Mode("bf16", (BYTES, GRAPH)),
    Mode("fp16", (BYTES, GRAPH)),
    Mode("bf16", (LAST, BYTES, GRAPH)),
)
CPU_MODES = (Mode("fp32"), Mode("fp32", (BYTES,)), Mode("fp32", (BYTES,), resize=True))
STAGES = (Mode("fp16", (LAST,)), Mode("fp16", (LAST, BYTES)))


@dataclass
class Bench:
    """One network, its input, and what is measured of it once.

    Attributes:
        name: of the network.
        subject: the network on the CPU, pictures and boxes.
        clock: how long a call is timed.
        batches: how many frames or people go into a call.
        card: of ``_card.measure``.

    """

    name: str
    subject: _networks.Subject
    clock: Clock
    batches: tuple[int, ...]
    card: dict[str, Any]
    references: dict[str, list[Poses]] = field(default_factory=dict)
    costs: tuple[float, float, float] | None = None

    @property
    def is_rtmo(self) -> bool:
        """Whether the network takes whole frames."""
        return self.subject.pose.metadata.kind == "rtmo"

    def open(self, mode: Mode) -> TorchNetwork:
        """Return the network as the backend runs it."""
        section = mode.section(self.clock.device, self.batches)
        inside = Thresholds(_networks.SCORE, _networks.NMS, _networks.MOST)
        metadata = with_options(
            self.subject.pose.metadata, inside, precision=mode.dtype, uint8=section.uint8_input
        )
        metadata = replace(metadata, input_size=self.subject.input_wh)
        return open_graph(
            TrainedPose(copy.deepcopy(self.subject.pose.model), metadata), metadata, section
        )

    def people(self, mode: Mode, network: TorchNetwork, count: int) -> Callable[[], list[Poses]]:
        """Return a call from the pixels of ``count`` frames or people to poses."""
        if self.is_rtmo:
            model = RtmoPose(network, mode.section("cpu", self.batches), self.subject.input_wh)
            shown = self.subject.images[:count]
            return resized(model, network, shown) if mode.resize else (lambda: model(shown))
        crops = TopDownPose(lambda _: [], network, TopDownConfig())
        images, boxes = first_people(self.subject, count)
        return lambda: crops.with_boxes(images, boxes)

    def reference(self, mode: Mode) -> list[Poses]:
        """Return the poses without the options that may not change them."""
        plain = Mode(mode.dtype, tuple(one for one in mode.options if one == LAST))
        if plain.name not in self.references:
            count = min(COMPARED, self.batches[-1])
            self.references[plain.name] = self.people(plain, self.open(plain), count)()
        return self.references[plain.name]

    def cost_of(self, network: TorchNetwork, count: int, dtype: str) -> tuple[float, float]:
        """Return FLOPs and bytes of the layers for ``count`` inputs."""
        if self.costs is None:
            maps = Maps(self.open(Mode("fp32"))._graph)
            width, height = self.subject.input_wh
            given = torch.zeros(2, 3, height, width, device=self.clock.device)
            (flops, one), (_, two) = cost(maps, given[:1]), cost(maps, given)
            self.costs = flops, 2 * one - two, two - one
        flops, weights, values = self.costs
        size = 1.0 if dtype == "fp32" else 0.5
        return flops * count, (weights + values * count) * size


class Maps(torch.nn.Module):
    """What a network computes before people are chosen."""

    def __init__(self, graph: Any) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, pixels: torch.Tensor) -> Any:
        """Return the maps of pixels as the network takes them."""
        if not hasattr(self.graph, "layers"):
            return self.graph(pixels)
        return self.graph._predictions(self.graph._prepared(pixels))


def first_people(subject: _networks.Subject, count: int) -> tuple[list[Image], list[Boxes]]:
    """Return pictures with ``count`` people in all and their boxes; from the start again."""
    images: list[Image] = []
    boxes: list[Boxes] = []
    while count > 0:
        for image, there in zip(subject.images, subject.boxes, strict=True):
            kept = min(count, len(there.scores))
            images.append(image)
            boxes.append(Boxes(there.xyxy[:kept], there.scores[:kept]))
            count -= kept
            if count <= 0:
                break
    return images, boxes


def resized(
    model: RtmoPose, network: TorchNetwork, images: list[Image]
) -> Callable[[], list[Poses]]:
    """Return a call that sends whole frames to the device and letterboxes them there."""
    (width, height), wide = images[0].size_wh, network.inputs[0].shape
    fit = Letterbox.fit((width, height), (int(wide[2] or 0), int(wide[1] or 0)))
    room = network.host_array((len(images), height, width, 3), np.uint8)

    @torch.inference_mode()
    def call() -> list[Poses]:
        for i, image in enumerate(images):
            room[i] = image.bgr()
        frames = torch.from_numpy(room).to(network._device, non_blocking=True)
        dets, points = to_host(list(network._values(letterboxed(frames, fit))))
        return [model._decode(dets[i], points[i], fit) for i in range(len(images))]

    return call


def letterboxed(frames: torch.Tensor, fit: Letterbox) -> torch.Tensor:
    """Return frames (B, H, W, 3) uint8 as ``LetterboxBatch`` makes them, but for rounding."""
    pixels = frames.permute(0, 3, 1, 2).float()
    small = functional.interpolate(pixels, fit.inner_wh[::-1], mode="bilinear").round()
    right, below = (a - b for a, b in zip(fit.input_wh, fit.inner_wh, strict=True))
    padded = functional.pad(small, (0, right, 0, below), value=LETTERBOX_GREY)
    return padded.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


# --- measuring ---------------------------------------------------------------------


def key_of(name: str, mode: Mode, count: int) -> str:
    return f"pose|{name}|{mode.name}|{count}"


def keys_of(name: str, modes: tuple[Mode, ...], batches: tuple[int, ...]) -> list[str]:
    return [key_of(name, mode, count) for mode in modes for count in batches]


def rtmo(log: MeasurementLog, clock: Clock, name: str) -> None:
    """Measure an RTMO in all modes and batches."""
    tiny, modes = log.options.tiny, RTMO_MODES if clock.cuda else CPU_MODES
    batches = TINY_BATCHES if tiny else BATCHES

    def make() -> _networks.Subject:
        found = _networks.rtmo(name, log.options.data, batches[-1], TINY_SIDE if tiny else 640)
        images = [ArrayImage(one.bgr(FRAME_WH)) for one in found.images]
        return replace(found, images=list[Image](images))

    measure(log, clock, name, modes, batches, make)


def sdpose(log: MeasurementLog, clock: Clock, name: str) -> None:
    """Measure an SDPose in all modes and batches."""
    modes = SDPOSE_MODES if clock.cuda else CPU_MODES[:2]
    batches = TINY_BATCHES if log.options.tiny else CROP_BATCHES
    measure(
        log,
        clock,
        name,
        modes,
        batches,
        lambda: _networks.sdpose(name, log.options.data, batches[-1]),
    )


def measure(
    log: MeasurementLog,
    clock: Clock,
    name: str,
    modes: tuple[Mode, ...],
    batches: tuple[int, ...],
    make: Callable[[], _networks.Subject],
) -> None:
    """Measure a network in all modes and batches that are not known yet."""
    if log.late or log.has(keys_of(name, modes, batches)):
        return
    card = log.results.values.get("card", {})
    bench = log.build(name, lambda: Bench(name, make(), clock, batches, card))
    for mode in modes:
        if not log.has(key_of(name, mode, count) for count in batches):
            torch.backends.cudnn.benchmark = mode.tuned
            measure_mode(log, bench, mode)
            torch.backends.cudnn.benchmark = False
    if bench.is_rtmo:
        for mode in STAGES if clock.cuda else CPU_MODES[:1]:
            log.measure(f"stages|{name}|{mode.name}", partial(stages, bench, mode))


def measure_mode(log: MeasurementLog, bench: Bench, mode: Mode) -> None:
    opened: list[TorchNetwork] = []

    def work(count: int) -> dict[str, Any]:
        if not opened:
            opened.append(bench.open(mode))
        return timed(bench, mode, opened[0], count)

    for count in bench.batches:
        log.measure(key_of(bench.name, mode, count), partial(work, count))


def timed(bench: Bench, mode: Mode, network: TorchNetwork, count: int) -> dict[str, Any]:
    """Return the times of a call and of the network alone, and the deviation of its people."""
    compared = min(COMPARED, bench.batches[-1])
    deviation = _networks.distance(bench.reference(mode), bench.people(mode, network, compared)())
    found = bench.clock.latencies(bench.people(mode, network, count))
    (spec,) = network.inputs
    shape = [count, *(size or 1 for size in spec.shape[1:])]
    element = torch.uint8 if spec.dtype == "tensor(uint8)" else torch.float32
    given = torch.full(shape, LETTERBOX_GREY, dtype=element, device=bench.clock.device)
    with torch.inference_mode():
        alone = bench.clock.network_ms(lambda: network._values(given))
    flops, moved = bench.cost_of(network, count, mode.dtype)
    shares = roofline({"p50_ms": alone}, bench.card, peak_of(mode), flops, moved)
    return found | {
        "network": bench.name,
        "mode": mode.name,
        "batch": count,
        "dtype": mode.dtype,
        "per_s": count / found["p50_ms"] * MS,
        "network_ms": alone,
        "deviation": deviation,
        "recorded": is_recorded(bench, network, count),
        "gflops": flops / 1e9,
        "layers_mib": moved / 2**20,
        **shares,
    }


def is_recorded(bench: Bench, network: TorchNetwork, count: int) -> bool | None:
    """Return whether the recording holds all people; None where nothing is recorded."""
    if network._recorded is None or not bench.is_rtmo:
        return None
    room = LetterboxBatch(bench.subject.input_wh, uint8=network.inputs[0].dtype == "tensor(uint8)")
    pixels = torch.from_numpy(room.fill(bench.subject.images[:count])[0])
    with torch.inference_mode():
        _, fits = network._recorded.run(pixels, network._size(count))
    return bool(fits)


def peak_of(mode: Mode) -> str:
    """Return what the products of a mode run in: torch lets convolutions round float32 to TF32."""
    return "tf32" if mode.dtype == "fp32" else mode.dtype


def stages(bench: Bench, mode: Mode) -> dict[str, Any]:
    """Return where the time of one call of the largest batch goes, each part waited for; ms."""
    count, device = bench.batches[-1], bench.clock.device
    network = bench.open(mode)
    uint8 = BYTES in mode.options
    images = bench.subject.images[:count]
    room = LetterboxBatch(bench.subject.input_wh, uint8=uint8, make=network.host_array)
    pixels, fits = room.fill(images)
    model = RtmoPose(network, mode.section("cpu", bench.batches), bench.subject.input_wh)
    maps, host = Maps(network._graph), torch.from_numpy(pixels)
    clock = replace(bench.clock, most=min(bench.clock.most, 15))
    with torch.inference_mode():
        there = host.to(device)
        values = network._values(there)
        dets, points = to_host(list(values))
        parts = {
            "letterbox": lambda: room.fill(images),
            "upload": lambda: host.to(device, non_blocking=True),
            "network": lambda: maps(network._laid_out(there)),
            "network, suppression, keypoints": lambda: network._values(there),
            "download": lambda: to_host(list(values)),
            "people": lambda: [model._decode(dets[i], points[i], fits[i]) for i in range(count)],
            "whole call": lambda: model(images),
        }
        found = {name: clock.median_ms(part) for name, part in parts.items()}
    return {"network": bench.name, "mode": mode.name, "batch": count, "ms": found}
