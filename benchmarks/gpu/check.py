"""Check a GPU server: every part of this project that a GPU runs, in one table for a report.

    make check-gpu                                   # after make setup-train RUNTIME=tensorrt
    make check-gpu ARGS="--video a.mp4 b.mp4"        # with your own footage
    make check-gpu ARGS=--dry-run                    # smallest sizes, on a CPU: some minutes

Each step runs in a process of its own; one that fails or lacks something is listed with its cause
and the command that mends it, and the others go on. Videos: those named, else the ones of
../shared/assets/videos, else a clip made here. Exit code 0: every step that can run here ran;
1: one failed; 77: no GPU server (what is missing is printed at once, and nothing is run).
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu import _summary
from benchmarks.gpu._part import ROOT, positive
from benchmarks.gpu._processes import claim, end_group, tail
from benchmarks.gpu.check_needs import INSTALL, NO_DRIVER, NOT_HERE, missing

VIDEOS = ROOT.parent / "shared" / "assets" / "videos"
STREAMS = (1, 4, 16, 64)
STREAMS_TINY = (1, 4)
_LIMIT_S, _LIMIT_TINY_S = 1800, 600
_GRACE_S = 15.0
"""From a request to end to a kill: the kit ends its own parts meanwhile."""
_STATES = ("ok", "failed", "not here")
_LINE = 300
_LEGEND = (
    "not here: this machine lacks it, nothing failed. batch: frames in a call, from BGR pixels in "
    "memory to poses. streams: videos read and posed together; real_time_streams: how many of "
    "their own frame rate that serves; lag: from a decoded frame to its tracked people under full "
    "load; mean_batch: frames in a call of the network. people: found in the frames compared; in "
    "streams, tracked in a frame."
)
_TABLE = ("| step | state | what came of it |", "|---|---|---|")


@dataclass(frozen=True)
class Step:
    """One step: its name in the table, its command, and the file it leaves."""

    name: str
    command: tuple[str, ...]
    result: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    Attributes:
        name: the step's.
        state: ``ok``, ``failed`` or ``not here``.
        figures: what it measured.
        cause: why it did not run to its end.
        remedy: the command that mends that, or where to read more; may be empty.
        seconds: how long it took.

    """

    name: str
    state: str
    figures: dict[str, Any]
    cause: str
    remedy: str
    seconds: float


def plan(out: Path, videos: Sequence[Path], *, tiny: bool, minutes: float) -> list[Step]:
    """Return the steps in their order; later ones use what earlier ones left in ``out``."""
    counts = STREAMS_TINY if tiny else STREAMS
    named = [
        ("machine", ""),
        ("copies", ""),
        ("networks", ""),
        ("onnx_cpu", "reference"),
        ("onnx_cuda", ""),
        ("onnx_graph", ""),
        ("onnx_tensorrt", ""),
        ("engine", ""),
        ("engine_graph", ""),
        ("tests", "onnx"),
        ("tests", "tensorrt"),
        *(() if tiny else (("tests", "torch"),)),
        ("decode", ""),
        ("nvdec", ""),
        *(("streams", str(count)) for count in counts),
        *(("streams_nvdec", str(count)) for count in counts[::2]),
        ("kit", f"{minutes:g}"),
    ]
    steps = []
    for name, argument in named:
        result = out / f"{name}_{argument}.step.json" if argument else out / f"{name}.step.json"
        command = [
            sys.executable,
            "-m",
            "benchmarks.gpu.check_steps",
            name,
            "--out",
            str(out),
            "--result",
            str(result),
            "--video",
            *map(str, videos),
            *(["--argument", argument] if argument else []),
            *(["--tiny"] if tiny else []),
        ]
        title = name if name in ("kit", "onnx_cpu") or not argument else f"{name} {argument}"
        steps.append(Step(title, tuple(command), result))
    return steps


def run(step: Step, limit_s: float) -> Outcome:
    """Run a step in a process of its own and return what became of it; its output is kept."""
    step.result.unlink(missing_ok=True)
    log = step.result.with_suffix(".log")
    start = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        # A group of its own: what a step starts ends with it.
        process = subprocess.Popen(
            step.command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            code: int | None = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_group(process, _GRACE_S)
    took = time.monotonic() - start
    more = f"see {log}"
    if code is None:
        return Outcome(step.name, "failed", {}, f"no end in {limit_s:g} s", more, took)
    outcome = _summary.read(step.result)
    if outcome.get("state") not in _STATES:  # it crashed
        last = (tail(log, 1, _LINE) or ["it printed nothing"])[0]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Outcome(step.name, "failed", {}, f"{how}: {last}", more, took)
    remedy = outcome.get("remedy") or (more if outcome["state"] == "failed" else "")
    return Outcome(
        step.name,
        outcome["state"],
        outcome.get("figures", {}),
        outcome.get("cause", ""),
        remedy,
        took,
    )


# --- the table ---------------------------------------------------------------------


def table(outcomes: Sequence[Outcome], kit: Path) -> str:
    """Return all of it in Markdown; ``kit``: the folder of what the kit's parts have written."""
    machine = next((one.figures for one in outcomes if one.name == "machine"), {})
    lines = ["# GPU check", "", *_TABLE]
    for number, one in enumerate(outcomes):
        lines += _rows(_short(one, outcomes[:number]))
    lines += ["", _LEGEND]
    values = machine.get("facts", {})
    lines += ["", "## Machine", "", *(f"- {name}: {value}" for name, value in values.items())]
    lines += ["", "## Doctor", "", *(f"- {line}" for line in machine.get("doctor", []))]
    summary = kit / "summary.md"
    if summary.is_file():
        lines += ["", "## Kit", "", summary.read_text(encoding="utf-8").strip()]
    return "\n".join(lines) + "\n"


def _short(one: Outcome, earlier: Sequence[Outcome]) -> Outcome:
    """Return an outcome that does not repeat a remedy."""
    repeated = one.remedy and any(other.remedy == one.remedy for other in earlier)
    return replace(one, remedy="as above") if repeated else one


def _rows(one: Outcome) -> Iterator[str]:
    if one.state != "ok":
        cause = f"{one.cause} -> {one.remedy}" if one.remedy else one.cause
        yield _row(one.name, one.state, cause)
    elif one.name == "machine":
        mend = [line for line in one.figures["doctor"] if line.startswith("mend")]
        yield _row(one.name, "ok", f"{one.figures['facts']['card']}; {len(mend)} to mend, below")
    else:
        parts = {key: value for key, value in one.figures.items() if isinstance(value, dict)}
        rest = {key: value for key, value in one.figures.items() if key not in parts}
        if rest:
            yield _row(one.name, "ok", f"{text(rest)} ({one.seconds:.0f} s)")
        for key, value in parts.items():
            yield _row(f"{one.name}: {key}", "ok", text(value))


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def text(figures: dict[str, Any]) -> str:
    """Return figures in one line, with the units that end their names."""
    parts = []
    for key, value in figures.items():
        if isinstance(value, dict):
            parts.append(f"{key}: {text(value)}")
        elif isinstance(value, float):
            name, unit = _unit(key)
            shown = f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
            parts.append(f"{name} {shown} {unit}".strip())
        else:
            parts.append(f"{key} {value}")
    return ", ".join(parts)


def _unit(key: str) -> tuple[str, str]:
    if key == "frames_per_s":
        return "", "frames/s"
    for ending, unit in (("_ms", "ms"), ("_s", "s")):
        if key.endswith(ending):
            return key.removesuffix(ending), unit
    return key, ""


# --- the whole ---------------------------------------------------------------------


def footage(given: Sequence[Path], out: Path, *, tiny: bool) -> list[Path]:
    """Return the videos to use: those given, the shared ones, or a clip that is made here."""
    if given:
        return [path.resolve() for path in given]
    shared = sorted(VIDEOS.glob("*.mp4")) if VIDEOS.is_dir() else []
    return shared[-1:] if tiny and shared else shared or [made_clip(out / "clip.mp4")]


def made_clip(path: Path, frames: int = 50) -> Path:
    """Write a clip of soft blots that move, 640 x 360 at 25 frames a second."""
    import numpy as np

    from deploy.pose_parity import made_picture
    from recognizer.video.writer import VideoWriter

    picture = made_picture(0, (640, 360))
    with VideoWriter(path, (640, 360), 25.0) as writer:
        for number in range(frames):
            writer.write(np.ascontiguousarray(np.roll(picture, 4 * number, 1)), number / 25)
    return path


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "benchmarks.gpu.check", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--video", type=Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "check_gpu")
    parser.add_argument("--minutes", type=positive, default=5, help="for the kit's runs and speed")
    parser.add_argument("--dry-run", action="store_true", help="smallest sizes, on a CPU")
    arguments = parser.parse_args(argv)
    if absent := [str(path) for path in arguments.video if not path.is_file()]:
        parser.error(f"--video: expected files, found none at {', '.join(absent)}")
    if unread := _unreadable(arguments.video):
        parser.error(f"--video: {unread}")
    lacking = [] if arguments.dry_run else missing()
    if any(cause == NO_DRIVER for cause, _ in lacking):
        print("This is no GPU server yet. Missing:")
        for cause, remedy in lacking:
            print(f"  {cause} -> {remedy}")
        print(f"Then: {INSTALL} && make check-gpu (or, without a GPU, ARGS=--dry-run)")
        return NOT_HERE
    out = arguments.out.resolve()
    try:
        with claim(out):
            return _check(arguments, out)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _unreadable(videos: Sequence[Path]) -> str:
    """Return why the first file that is no video cannot be read, or ''."""
    from recognizer.video.reader import VideoError, VideoReader

    for path in videos:
        try:
            VideoReader(path).close()
        except VideoError as error:
            return str(error)
    return ""


def _forget(out: Path) -> None:
    """Delete what an earlier check has left that would pass for results of this one."""
    parts = [
        f"{part}{size}{kind}"
        for part in ("runs", "speed")
        for size in ("", "_tiny")
        for kind in (".json", ".md")
    ]
    for name in (_summary.NAME, _summary.CARD, *parts):
        (out / "kit" / name).unlink(missing_ok=True)
    for path in out.glob("reference_*.pkl"):
        path.unlink()


def _check(arguments: argparse.Namespace, out: Path) -> int:
    """Run every step and write the table; return the exit code."""
    _forget(out)
    videos = footage(arguments.video, out, tiny=arguments.dry_run)
    outcomes: list[Outcome] = []
    for step in plan(out, videos, tiny=arguments.dry_run, minutes=arguments.minutes):
        print(f"{step.name} ...", flush=True)
        outcomes.append(run(step, _LIMIT_TINY_S if arguments.dry_run else _LIMIT_S))
        for row in _rows(_short(outcomes[-1], outcomes[:-1])):
            print(row, flush=True)
        (out / "check.md").write_text(table(outcomes, out / "kit"), encoding="utf-8")
    whole = table(outcomes, out / "kit")
    print(f"\n{whole}\nThe table is in {out / 'check.md'}")
    return int(any(one.state == "failed" for one in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
