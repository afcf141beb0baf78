"""Run the kit's parts in the order of their value within a time budget.

    python -m benchmarks.gpu.run --minutes 12 [--out output/gpu] [--archive results.tar.gz]
    python -m benchmarks.gpu.run --dry-run

Each part is a process of its own with its share of the time; its output goes to
``<out>/<part>.log`` and its results to ``<out>/<part>.json``. A part past its limit is asked to
end, then killed; what it has measured stays. A second call with the same --out skips what is
complete and goes on with the rest. ``<out>/summary.md`` holds every table and what is missing.
--dry-run is --tiny --device cpu.
"""

import argparse
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu import _site, _summary
from benchmarks.gpu._part import PACK, ROOT, positive
from benchmarks.gpu._processes import LOCK, POLL_S, claim, kill, send, tail

STAGES = ((("runs",), 110.0), (("speed",), 200.0), (("fsd", "small"), 390.0))
"""Parts that run at the same time, and their share of the time: in seconds of 12 minutes.

An H200 took 16 s of ``runs`` before its first network was measured and 100 s for two thirds of
``speed``.
"""
PARTS = tuple(part for parts, _ in STAGES for part in parts)
RESERVE_S = 8.0
"""For ending what overruns and for the summary."""
GRACE_S = 4.0
"""From a request to end to a kill."""
START_S = 2.0
"""Of a part's time, until its own clock runs."""
CARD_S = 180.0
"""For naming and measuring the card; a driver that hangs takes longer."""
TAIL_LINES, TAIL_WIDTH = 12, 160
ARCHIVE_LIMIT, FILE_LIMIT = 15 * 2**20, 8 * 2**20


@dataclass(frozen=True)
class Settings:
    """Settings of a run.

    Attributes:
        out: folder of the results.
        device: ``cuda:0`` or ``cpu``.
        tiny: smallest sizes.
        data: folder with the packed data.
        package: where the parts' modules are.
        until: end of the budget, by ``time.monotonic``.
        grace: seconds from a request to end to a kill.

    """

    out: Path
    device: str
    tiny: bool
    data: Path
    package: str
    until: float
    grace: float = GRACE_S


def main(argv: list[str] | None = None) -> int:
    given = _arguments(argv)
    settings = _settings(given)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with claim(settings.out):
            environment = _site.environment()
            look_at_card(settings, environment)
            try:
                run_stages(stages_of(given.parts), settings, environment, given.archive)
            except KeyboardInterrupt:
                print("interrupted; what was measured stays")
            finally:
                report(settings.out, given.parts, given.archive)
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print(f"summary: {settings.out / _summary.NAME}")
    return 0 if all(_summary.is_complete(settings.out, part) for part in given.parts) else 1


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=positive, default=12.0, help="for everything together")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, help="default: output/gpu, tiny: output/gpu_tiny")
    parser.add_argument("--data", type=Path, default=PACK / "data")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes: does it run")
    parser.add_argument("--dry-run", action="store_true", help="as --tiny --device cpu")
    parser.add_argument("--archive", type=Path, help="pack the results into this .tar.gz, too")
    given = parser.parse_args(argv)
    given.parts = list(dict.fromkeys(given.parts))
    if given.archive and given.archive.is_dir():
        parser.error(f"--archive: expected a file, got the folder {given.archive}")
    return given


def _settings(given: argparse.Namespace) -> Settings:
    tiny, device = given.tiny or given.dry_run, "cpu" if given.dry_run else given.device
    out = given.out or ROOT / "output" / ("gpu_tiny" if tiny else "gpu")
    until = time.monotonic() + given.minutes * 60 - RESERVE_S
    return Settings(out.absolute(), device, tiny, given.data.absolute(), __package__ or "", until)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def look_at_card(settings: Settings, environment: dict[str, str]) -> None:
    """Name and measure the card in a process of its own.

    Raises:
        RuntimeError: it cannot be used, and why.

    """
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu._card",
        "--device",
        settings.device,
        "--out",
        str(settings.out),
        *(["--tiny"] if settings.tiny else []),
    ]
    try:
        seen = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=CARD_S,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"{settings.device}: no answer in {CARD_S:g} s; see whether nvidia-smi answers"
        ) from error
    print(seen.stdout, end="", flush=True)
    if seen.returncode:
        lines = seen.stderr.strip().splitlines() or [f"exit code {seen.returncode}"]
        raise RuntimeError(lines[-1])


# --- stages ------------------------------------------------------------------------


def stages_of(parts: list[str]) -> list[tuple[list[str], float]]:
    """Return the stages that hold these parts, with their share of the time."""
    kept = [([part for part in stage if part in parts], share) for stage, share in STAGES]
    return [(stage, share) for stage, share in kept if stage]


def run_stages(
    stages: list[tuple[list[str], float]],
    settings: Settings,
    environment: dict[str, str],
    pack_to: Path | None = None,
) -> None:
    """Run stage after stage; time that one leaves is divided among those that follow."""
    open_stages = []
    for parts, share in stages:
        waiting = [part for part in parts if not _summary.is_complete(settings.out, part)]
        print("".join(f"{part}: complete\n" for part in parts if part not in waiting), end="")
        if waiting:
            open_stages.append((waiting, share))
    for number, (parts, share) in enumerate(open_stages):
        left = settings.until - time.monotonic()
        seconds = left * share / sum(later for _, later in open_stages[number:])
        if seconds <= 0:
            print(f"{', '.join(parts)}: no time left")
            continue
        run_side_by_side(parts, seconds, settings, environment)
        report(settings.out, [part for stage, _ in stages for part in stage], pack_to)


def run_side_by_side(
    parts: list[str], seconds: float, settings: Settings, environment: dict[str, str]
) -> None:
    """Run parts at the same time; end those that are not done after ``seconds``."""
    limit = time.monotonic() + seconds
    cores = str(max(1, (os.cpu_count() or 1) // len(parts)))
    own = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": cores, **environment}
    print(f"{', '.join(parts)}: at most {seconds:.0f} s", flush=True)
    running: dict[str, subprocess.Popen[bytes]] = {}
    ended: dict[str, str] = {}
    try:
        for part in parts:
            try:
                running[part] = _start(part, seconds, settings, own)
            except OSError as error:
                ended[part] = f"not started: {error}"
        while len(ended) < len(parts) and time.monotonic() < limit:
            _collect(running, ended)
            time.sleep(POLL_S)
    finally:
        _end(running, ended, settings.grace)
    for part, how in ended.items():
        if how != "done":
            how += f" after {seconds:.0f} s" if "limit" in how else ""
        _summary.note_end(settings.out, part, how)
        last = tail(settings.out / f"{part}.log", TAIL_LINES, TAIL_WIDTH)
        print("\n".join([f"--- {part}: {how}", *last]), flush=True)


def _start(
    part: str, seconds: float, settings: Settings, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        f"{settings.package}.{part}",
        "--out",
        str(settings.out),
        "--device",
        settings.device,
        "--seconds",
        f"{max(1.0, seconds - START_S):.1f}",
        "--data",
        str(settings.data),
        *(["--tiny"] if settings.tiny else []),
    ]
    with (settings.out / f"{part}.log").open("ab") as log:
        # A group of its own, so that a part's own processes end with it.
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            process_group=0,
        )


def _collect(running: dict[str, subprocess.Popen[bytes]], ended: dict[str, str]) -> None:
    for part, process in running.items():
        if part not in ended and process.poll() is not None:
            code = process.returncode
            ended[part] = "done" if code == 0 else f"failed with exit code {code}"


def _end(running: dict[str, subprocess.Popen[bytes]], ended: dict[str, str], grace: float) -> None:
    """Ask what still runs to end, wait, and kill what is left of any part's group."""
    _collect(running, ended)
    late = [part for part in running if part not in ended]
    for part in late:
        send(running[part], signal.SIGTERM)
    until = time.monotonic() + grace
    while any(running[part].poll() is None for part in late) and time.monotonic() < until:
        time.sleep(POLL_S)
    for part, process in running.items():
        if part in late:
            ended[part] = "killed" if process.poll() is None else "stopped"
            ended[part] += " at its limit"
        if not kill(process):
            ended[part] += f"; process {process.pid} does not end"


def report(out: Path, parts: list[str], pack_to: Path | None) -> None:
    """Write the summary and the archive; where one cannot be written, say so and go on."""
    try:
        _summary.write(out, parts)
        if pack_to:
            archive(out, pack_to)
    except OSError as error:
        print(f"summary or archive: not written: {error}", flush=True)


def archive(out: Path, target: Path) -> None:
    """Pack the results, smallest files first; what is too large to travel is named and left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    files = sorted((path for path in out.rglob("*") if path.is_file()), key=_size)
    room, scratch = ARCHIVE_LIMIT, target.with_name(f"{target.name}.part")
    own = {target.absolute(), scratch.absolute(), (out / LOCK).absolute()}
    with tarfile.open(scratch, "w:gz") as packed:
        for path in files:
            if path.absolute() in own:
                continue
            size = _size(path)
            if size > min(room, FILE_LIMIT):
                print(f"{path.relative_to(out)}: {size / 2**20:.1f} MiB, not archived")
                continue
            packed.add(path, path.relative_to(out).as_posix())
            room -= size
    scratch.replace(target)


def _size(path: Path) -> int:
    return path.stat().st_size


if __name__ == "__main__":
    sys.exit(main())
