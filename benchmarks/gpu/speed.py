"""Part (b): speed of RTMO and SDPose from pixels to people, of training steps, and the roofline.

    python -m benchmarks.gpu.speed --seconds 120 --out output/gpu --device cuda:0

What is most worth knowing is measured first; each subject has a share of the time, and what a
share did not hold is measured afterwards, as far as time allows.
"""

import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu import _card, _pose_tables, _summary, speed_compiled, speed_pose, speed_training
from benchmarks.gpu._part import ROOT, Options, Results, parse
from benchmarks.gpu._speed import Clock, MeasurementLog, is_error

PART = "speed"
END_S = 3.0
"""Left at the end for the tables."""
COMPILE_S, COMPILE_MOST_S = 45.0, 90.0
"""Nothing is compiled with less time left, and it takes no more: 26 s were too few on an H200."""


@dataclass(frozen=True)
class Subject:
    """One subject: its share of the part's time, what measures it, and the keys of its results."""

    share: float
    measure: Callable[[MeasurementLog], None]
    keys: list[str]


def main(argv: list[str] | None = None) -> int:
    options = parse(__doc__, argv)
    warnings.simplefilter("ignore")
    results = Results.open(options, PART)
    log = MeasurementLog(options, results, END_S)
    again = any(key.startswith("pose|") for key in results.values)
    if "card" not in results:
        known = _summary.read(options.out / _summary.CARD)
        results.put("card", known if "copy_tbps" in known else _card.measure(options.device))
    subjects = subjects_of(options)
    if again:  # an earlier call has had the time for everything else
        compiled(options, results)
    for one in subjects:
        log.until = max(END_S, options.left - one.share * options.seconds)
        attempt(one, log)
    keys = [key for one in subjects for key in one.keys] + compiled(options, results)
    log.until = END_S
    for one in subjects:
        attempt(one, log)
    values = [results.values.get(key) for key in keys]
    if all(value is not None and not is_error(value) for value in values):
        results.finish()
    return 0


def attempt(subject: Subject, log: MeasurementLog) -> None:
    """Measure a subject; what cannot even be built is a failure of all that is missing of it."""
    try:
        subject.measure(log)
    except Exception as error:  # noqa: BLE001  # the next subject may still succeed
        traceback.print_exc()
        for key in subject.keys:
            if not log.has([key]):
                log.results.put(key, {"error": f"{type(error).__name__}: {error}"[:1000]})
                log.failed.add(key)
    write(log.options, log.results)


def subjects_of(options: Options) -> list[Subject]:
    """Return what is measured, most worth knowing first."""
    call, step = clocks(options)
    cuda = call.cuda
    modes = speed_pose.RTMO_MODES if cuda else speed_pose.CPU_MODES
    crops = speed_pose.SDPOSE_MODES if cuda else speed_pose.CPU_MODES[:2]
    tiny = options.tiny
    frames = speed_pose.TINY_BATCHES if tiny else speed_pose.BATCHES
    people = speed_pose.TINY_BATCHES if tiny else speed_pose.CROP_BATCHES

    def rtmo(name: str, share: float) -> Subject:
        keys = speed_pose.keys_of(name, modes, frames)
        return Subject(share, lambda log: speed_pose.rtmo(log, call, name), keys)

    def sdpose(name: str, share: float) -> Subject:
        keys = speed_pose.keys_of(name, crops, people)
        return Subject(share, lambda log: speed_pose.sdpose(log, call, name), keys)

    def steps(ways: tuple[speed_training.Way, ...], kind: Any, share: float) -> Subject:
        keys = speed_training.keys_of(options, ways)
        return Subject(share, lambda log: speed_training.run(log, step, ways, kind), keys)

    training = [
        steps(speed_training.POSE_WAYS, speed_training.PoseSteps, 0.18),
        steps(speed_training.ACTION_WAYS, speed_training.ActionSteps, 0.08),
    ]
    if tiny:
        return [rtmo("rtmo-s", 0.3), sdpose("sdpose-t", 0.2), *training]
    return [
        rtmo("rtmo-s", 0.2),
        *training,
        rtmo("rtmo-l", 0.14),
        sdpose("sdpose-s_v1", 0.05),
        sdpose("sdpose-t", 0.04),
    ]


def clocks(options: Options) -> tuple[Clock, Clock]:
    """Return how long a call and how long a training step is timed."""
    if options.tiny:
        once = Clock(options.device, 0.0, 1, least=1, warm_ups=0)
        return once, once
    return Clock(options.device, 0.5, 200), Clock(options.device, 0.8, 20)


def compiled(options: Options, results: Results) -> list[str]:
    """Measure compiled steps in another process, which ends in time; return their keys.

    Compiling takes so long that it has a share of its own: after everything's first round, or
    before everything in a second call.
    """
    ways = speed_training.compiled_ways(options.device)
    keys = speed_training.keys_of(options, ways, speed_compiled.BATCHES)
    known = [results.values.get(key) for key in keys]
    left = options.left - END_S
    left = left if options.tiny else min(left, COMPILE_MOST_S)
    if all(one is not None and not is_error(one) for one in known):
        return keys
    if left < (END_S if options.tiny else COMPILE_S):
        return keys
    command = [
        sys.executable,
        "-m",
        speed_compiled.__name__,
        "--out",
        str(options.out),
        "--device",
        options.device,
        "--seconds",
        f"{left:.1f}",
        *(["--tiny"] if options.tiny else []),
    ]
    try:
        subprocess.run(command, cwd=ROOT, timeout=left, check=False)
    except subprocess.TimeoutExpired:
        print(f"compiled steps: stopped after {left:.0f} s", flush=True)
    path = options.out / f"{speed_compiled.PART}.json"
    for key, value in _summary.read(path).items():
        results.put(key, value)
    return keys


def write(options: Options, results: Results) -> None:
    """Write the tables of what is measured so far."""
    card = results.values.get("card", {})
    parts = [
        f"{card.get('name', '?')}, torch {card.get('torch', '?')}. Measured there: "
        + ", ".join(
            f"{key.removesuffix('_tflops')} {card[key]:,.3g} TFLOP/s"
            for key in card
            if key.endswith("_tflops") and card[key]
        )
        + f", copies {card.get('copy_tbps', 0):,.3g} TB/s.",
        "From BGR frames (1280x720; SDPose: people's boxes) in memory to Poses. Shares are of the "
        "network alone: its products of the card's matrix products, and what its layers read and "
        "write, once each, of the card's copies. Weights from a seed.",
        _pose_tables.render(results.values),
        "Training steps on data that is on the device: made people; clips of 100 frames with 2 of "
        "4 people there. mm*: as mmengine, mmpose and mmaction2 run without us.",
        speed_training.render(results.values),
    ]
    path = options.out / f"{PART}.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
