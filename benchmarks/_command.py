"""The command line of a benchmark: bad input is one line on stderr and exit code 2."""

import argparse
import json
import math
from pathlib import Path
from typing import NoReturn

from samples.one_line_errors import BAD_INPUT
from samples.one_line_errors import one_line_errors as one_line_errors

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT.parent / "shared" / "assets"
CONFIG = ROOT / "configs" / "presets" / "tinypose.yaml"
"""The config of benchmarks: YOLOX-nano in front of PP-TinyPose, all else as shipped."""
_FOLDERS = [str(ROOT / "weights"), str(ASSETS / "weights")]
WEIGHTS = f"models.weights_dirs={json.dumps(_FOLDERS)}"
"""Override of it: the folders of the networks that benchmarks run."""
SMALL_POSE = "models.pose_estimation.onnx.model_path=small_pose.onnx"
"""Override that names our own network in place of the pair."""


class Parser(argparse.ArgumentParser):
    """Say what is wrong with an argument in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with ``BAD_INPUT``."""
        self.exit(BAD_INPUT, f"{self.prog}: {message}; --help shows all\n")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``, the config file, and ``--set``, changes to it."""
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """Read a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text!r}")
    return value


def weights_of(config_file: Path) -> list[str]:
    """Return the overrides that name the networks' folders; a config of one's own names its own."""
    return [WEIGHTS] if config_file.resolve() == CONFIG else []


def existing_folder(text: str) -> Path:
    """Read the path of a folder that exists."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder, found none at {text}")
    return Path(text)


def existing_file(text: str) -> Path:
    """Read the path of a file that exists."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"expected a file, found none at {text}")
    return Path(text)
