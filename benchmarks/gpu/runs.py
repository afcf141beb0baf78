"""Part (a): whether the networks run on the GPU and give the results of the CPU there.

RTMO-s/m/l and SDPose T / S-V1 / B through the backend ``pth``, ST-GCN++ through its recognizer;
weights from a seed. Each in fp32, fp16 and bf16, channels last and not, two of them compiled.

An RTMO that finds people by weights from a seed amplifies a rounding far more than a trained one
(its norms and last layers magnify small differences until cells differ enough), and an SDPose's
heatmaps have many peaks of almost one height. So errors of features and outputs are measured with
weights without that, and compare precisions; keypoints are comparable in fp32 only.
"""

import copy
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, cast

import torch

from benchmarks.gpu import _runs_table
from benchmarks.gpu._card import median_seconds
from benchmarks.gpu._card import name as card_name
from benchmarks.gpu._part import Options, Results, parse

PART = "runs"
VARIANTS = (
    "fp32 strict",
    "fp32",
    "fp16",
    "bf16",
    "fp16 channels-last",
    "bf16 channels-last",
    "fp32 channels-last",
)
"""Strict: no TF32 in convolutions, which torch allows unless told otherwise."""
POSES = ("rtmo-s", "sdpose-s_v1", "rtmo-l", "sdpose-t", "rtmo-m", "sdpose-b")
TINY_POSES = ("rtmo-s", "sdpose-t")
COMPILED = (("sdpose-s_v1", "bf16 compile"), ("rtmo-s", "bf16 compile"))
TINY_COMPILED = (("sdpose-t", "fp32 compile"),)
COMPILE_S = 12.0
"""No compilation begins with less time left."""


def main(argv: list[str] | None = None) -> int:
    options = parse(__doc__, argv)
    results = Results.open(options, PART)
    print(f"begins with {options.left:.1f} s left", flush=True)
    warnings.simplefilter("ignore")
    from recognizer.openmmlab import load_mmaction, load_mmpose

    load_mmpose()
    load_mmaction()
    results.put("card", card_name(options.device))
    names = TINY_POSES if options.tiny else POSES
    for name in (*names[:2], "stgcn++", *names[2:]):
        if options.left < 1:
            break
        measure = actions if name == "stgcn++" else poses
        measure(name, options, results)
    for name, variant in TINY_COMPILED if options.tiny else COMPILED:
        if options.left > COMPILE_S or options.tiny:
            poses(name, options, results, (variant,))
    if all(_is_there(results, key) for key in expected_keys(options)):
        results.finish()
    _runs_table.write(results.path.with_suffix(".md"), results.values)
    return 0


def expected_keys(options: Options) -> list[str]:
    """Return the keys of all measurements."""
    names = TINY_POSES if options.tiny else POSES
    keys = [f"{name}, {one}" for name in names for one in variants(options.device)]
    keys += [f"stgcn++, {one}" for one in action_variants(tiny=options.tiny)]
    compiled = TINY_COMPILED if options.tiny else COMPILED
    return keys + [f"{name}, {one}" for name, one in compiled]


def variants(device: str) -> tuple[str, ...]:
    """Return the variants of a device; a CPU knows no TF32, and is slow in half precision."""
    cpu = torch.device(device).type == "cpu"
    return ("fp32 strict", "fp32 channels-last") if cpu else VARIANTS


def _is_there(results: Results, key: str) -> bool:
    value = results.values.get(key)
    return isinstance(value, dict) and "error" not in value


def try_to(results: Results, key: str, measure: Callable[[], dict[str, Any]]) -> None:
    """Keep what a measurement gives, or why it failed."""
    try:
        results.put(key, measure())
    except Exception as error:  # noqa: BLE001  # the next measurement may still succeed
        traceback.print_exc()
        results.put(key, {"error": f"{type(error).__name__}: {error}"[:500]})
    print(f"{key}: {short(results.values[key])}", flush=True)
    _runs_table.write(results.path.with_suffix(".md"), results.values)


def short(found: dict[str, Any]) -> str:
    """Return a measurement in a few words, for the log."""
    if "error" in found:
        return str(found["error"]).splitlines()[0]
    worst = max(found["errors"].values())
    return f"error {worst:.1e}, network {found['network_ms']:.1f} ms"


# --- pose networks -----------------------------------------------------------------


def poses(
    name: str, options: Options, results: Results, only: tuple[str, ...] | None = None
) -> None:
    """Measure a pose network in all variants that are not measured yet."""
    missing = [
        one for one in only or variants(options.device) if not _is_there(results, f"{name}, {one}")
    ]
    if not missing:
        return
    print(f"{name}: {options.left:.1f} s left", flush=True)
    try:
        subject, reference = _prepared(name, options)
    except Exception as error:  # noqa: BLE001  # the next network may still succeed
        traceback.print_exc()
        print(f"{name}: not built", flush=True)
        for one in missing:
            results.put(f"{name}, {one}", {"error": f"not built: {error}"[:500]})
        return
    for one in missing:
        if options.left < 1:
            return
        key = f"{name}, {one}"
        try_to(results, key, partial(_pose, subject, one, reference, options))


def _prepared(name: str, options: Options) -> tuple[Any, dict[str, Any]]:
    """Return a network and its input, outputs and poses on the CPU."""
    from benchmarks.gpu import _networks

    count = 1 if options.tiny else 8
    if name in _networks.RTMO:
        side = 160 if options.tiny else 640
        subject = _networks.rtmo(name, options.data, count, side)
    else:
        subject = _networks.sdpose(name, options.data, count)
    pixels, network = subject.pixels(), subject.open(_networks.CPU)
    reference = {
        "pixels": pixels,
        "outputs": _networks.outputs(subject.open(_networks.CPU, even=True), pixels, "cpu"),
        "poses": subject.poses(network, _networks.CPU)(),
    }
    return subject, reference


def _pose(
    subject: Any, variant: str, reference: dict[str, Any], options: Options
) -> dict[str, Any]:
    """Return errors against the CPU's fp32, median times and the peak of the memory."""
    from benchmarks.gpu import _networks
    from recognizer.config.models import TorchPoseConfig

    section = TorchPoseConfig(
        device=options.device,
        precision=cast(Literal["fp32", "fp16", "bf16"], variant[:4]),
        channels_last="channels-last" in variant,
    )
    compiled, pixels = variant.endswith("compile"), reference["pixels"]
    with _strict(variant == "fp32 strict"), peak_memory(options.device) as memory:
        network = subject.open(section, even=compiled)
        if compiled:
            _compile(network, options)
        same = compiled or subject.even is subject.pose
        even = network if same else subject.open(section, even=True)
        # A hook would be compiled, and its removal would have everything compiled again.
        outputs = _networks.outputs(even, pixels, options.device, features=not compiled)
        call = subject.poses(network, section)
        found = {
            "errors": {
                name: _networks.error(reference["outputs"][name], value)
                for name, value in outputs.items()
            },
            "keypoints": None if compiled else _networks.distance(reference["poses"], call()),
            "batch": len(pixels),
            "network_ms": _milliseconds(lambda: network.run({"input": pixels}), options),
            "poses_ms": _milliseconds(call, options),
        }
    return found | memory


def _milliseconds(work: Callable[[], Any], options: Options) -> float:
    if options.tiny:
        return 1000 * median_seconds(work, options.device, repeats=1, warm_up=0)
    return 1000 * median_seconds(work, options.device, repeats=5)


def _compile(network: Any, options: Options) -> None:
    """Compile what holds the work; choosing people stays as it is."""
    backend = "aot_eager" if options.tiny else "inductor"
    graph = network._graph
    for part in (graph.backbone, graph.layers if hasattr(graph, "layers") else graph.head):
        part.compile(backend=backend)


@contextmanager
def _strict(enabled: bool) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before and not enabled
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@contextmanager
def peak_memory(device: str) -> Iterator[dict[str, Any]]:
    """Fill in ``peak_mib``: the most that tensors took inside the block; None on a CPU."""
    found: dict[str, Any] = {"peak_mib": None}
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    yield found
    if cuda:
        found["peak_mib"] = torch.cuda.max_memory_allocated(device) / 2**20


# --- ST-GCN++ ----------------------------------------------------------------------


def action_variants(*, tiny: bool) -> list[str]:
    """Return the variants of ST-GCN++: mmaction2's and ours, fp32 and autocast."""
    ways = ("fp32 strict", "bf16") if tiny else ("fp32 strict", "fp32", "bf16")
    return [f"{kind} {how}" for kind in ("FastSTGCN", "STGCN") for how in ways]


def actions(name: str, options: Options, results: Results) -> None:
    """Measure ST-GCN++ on real clips: forward against the CPU's, backward for finite numbers."""
    missing = [
        one
        for one in action_variants(tiny=options.tiny)
        if not _is_there(results, f"{name}, {one}")
    ]
    built: dict[str, Any] = {}
    for one in missing:
        if options.left > 1:
            try_to(results, f"{name}, {one}", partial(_action, one, options, built))


def _recognizer(kind: str, options: Options, built: dict[str, Any]) -> tuple[Any, torch.Tensor]:
    """Return ST-GCN++ with weights from a seed and real clips (N, M, T, V, C), on the CPU."""
    from recognizer.action import registered  # noqa: F401
    from recognizer.action.features import from_pipeline
    from tests.action import checkpoints

    if kind not in built:
        width, clip_len = (12, 24) if options.tiny else (64, 100)
        config = checkpoints.train_config(kind=kind, width=width, clip_len=clip_len)
        steps = config.test_dataloader.dataset.pipeline
        clips = checkpoints.real_slots(from_pipeline(steps))
        built[kind] = checkpoints.random_recognizer(config), clips
    network, clips = built[kind]
    return copy.deepcopy(network), clips


def _action(variant: str, options: Options, built: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.gpu._networks import error

    kind, _, how = variant.partition(" ")
    network, clips = _recognizer(kind, options, built)
    with torch.inference_mode():
        expected = network.backbone(clips).mean((1, 3, 4))
    with _strict(how == "fp32 strict"), peak_memory(options.device) as memory:
        network, given = network.to(options.device), clips.to(options.device)

        def forward() -> torch.Tensor:
            kind = torch.device(options.device).type
            with torch.autocast(kind, torch.bfloat16, enabled=how == "bf16"):
                features: torch.Tensor = network.backbone(given).float()
            return features.mean((1, 3, 4))

        with torch.inference_mode():
            found = {
                "errors": {"features": error(expected, forward().cpu())},
                "batch": len(given),
                "network_ms": _milliseconds(forward, options),
            }
        forward().square().mean().backward()
        gradients = [p.grad for p in network.backbone.parameters() if p.grad is not None]
        finite = bool(gradients) and all(bool(g.isfinite().all()) for g in gradients)
        found["gradients_finite"] = finite
    return found | memory


if __name__ == "__main__":
    sys.exit(main())
