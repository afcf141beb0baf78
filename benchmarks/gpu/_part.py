"""Arguments, clock and results file, which every part of the kit shares.

A part is a module with ``main()``. It writes ``<out>/<part>.json`` after every measurement, so
that a part that is stopped at its limit loses only what it was measuring, and goes on from there
when it is called again with the same ``--out``.
"""

import argparse
import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu import _summary

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT / ".gpu"
"""Where ``benchmarks.gpu.pack`` puts what travels; git ignores it."""


@dataclass(frozen=True)
class Options:
    """Arguments of a part.

    Attributes:
        out: folder of the results.
        device: ``cuda:0``, or ``cpu`` in a dry run.
        seconds: the part's time; it begins nothing that cannot end within it.
        tiny: smallest sizes, to see that everything runs.
        data: folder with the packed data.
        until: end of that time, by ``time.monotonic``.

    """

    out: Path
    device: str
    seconds: float
    tiny: bool
    data: Path
    until: float

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.until - time.monotonic()


def positive(text: str) -> float:
    """Read a time on a command line: a number above 0, not nan nor inf."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def parse(doc: str | None, argv: list[str] | None = None) -> Options:
    """Read a part's command line; every part takes the same."""
    parser = argparse.ArgumentParser(description=(doc or "").strip().splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "output" / "gpu")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument(
        "--until",
        type=float,
        help="end of that time by time.monotonic, which is "
        "the same for all processes; default: --seconds from now",
    )
    parser.add_argument("--tiny", action="store_true", help="smallest sizes: does it run")
    parser.add_argument("--data", type=Path, default=PACK / "data")
    given = parser.parse_args(argv)
    given.out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + given.seconds if given.until is None else given.until
    return Options(given.out, given.device, given.seconds, given.tiny, given.data, until)


@dataclass
class Results:
    """Measurements by key, kept in a JSON file that is whole at any moment."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, options: Options, part: str) -> "Results":
        """Open a part's results: those of an earlier call, if there was one.

        What cannot be read is set aside as ``<part>.broken``, and the part begins anew.
        """
        path = options.out / f"{part}.json"
        values = _summary.read(path)
        if not values and path.is_file():
            path.replace(path.with_suffix(".broken"))
            print(f"{path}: damaged, set aside as {part}.broken", flush=True)
        return cls(path, values)

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def put(self, key: str, value: Any) -> None:
        """Keep a measurement and write the file."""
        self.values[key] = value
        scratch = self.path.with_suffix(".part")
        scratch.write_text(json.dumps(self.values, indent=1) + "\n", encoding="utf-8")
        scratch.replace(self.path)

    def finish(self) -> None:
        """Say that nothing is left to measure: a second call skips this part."""
        self.put("complete", True)
