"""The options of OpenMMLab's tools, handed on to main.py."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# This folder's own names are those of other modules: the project's folder takes its place.
sys.path[:] = [str(ROOT), *(place for place in sys.path if Path(place) != ROOT / "tools")]

FAILED, BAD_CONFIG = 1, 2


def parser(name: str, about: str) -> argparse.ArgumentParser:
    """Return a parser with the options that all tools take."""
    made = argparse.ArgumentParser(name, description=about)
    made.add_argument("config", help="a training config of mmpose or mmaction2")
    made.add_argument(
        "--cfg-options",
        "--options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="changes of the config",
    )
    made.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="a key of configs/config.yaml, such as train.data_root=/data/coco",
    )
    made.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    made.add_argument("--local-rank", "--local_rank", type=int, help=argparse.SUPPRESS)
    return made


def run(arguments: argparse.Namespace, mode: Callable[[str], str], extra: Sequence[str]) -> int:
    """Find out what the config is for and run main.py on it; return the exit code.

    Args:
        arguments: of a parser above.
        mode: gives main.py's mode for ``pose``, ``fight`` or ``falldown``; its ValueErrors are
            shown.
        extra: more of main.py's command line.

    """
    if arguments.launcher in ("slurm", "mpi"):
        return _fail(
            f"--launcher {arguments.launcher}: not supported; start torchrun on each node "
            "(tools/dist_train.sh with NNODES, NODE_RANK, MASTER_ADDR)"
        )
    if arguments.launcher == "pytorch" and "RANK" not in os.environ:
        return _fail(
            "--launcher pytorch: expected to be started by torchrun or "
            "torch.distributed.launch: tools/dist_train.sh CONFIG N"
        )
    if os.environ.get("RANK", "0") != "0":
        logging.disable(logging.WARNING)  # one process speaks, whatever level main.py sets
    try:
        from recognizer.training.classifier.artifacts import existing_config
        from recognizer.training.classifier.by_config import kind_of, own_data, read

        path = existing_config(Path(arguments.config))
        cfg = read(path)
        kind = kind_of(cfg)
        words = ["--mode", mode(kind), "--train-config", str(path), *extra]
        folder = None if kind == "pose" else own_data(cfg, arguments.cfg_options)
    except ModuleNotFoundError as error:
        advice = f"run `make setup-train` in {ROOT} and start with {ROOT}/.venv/bin/python"
        return _fail(f"{error.name} is not installed for {sys.executable}; {advice}", FAILED)
    except ValueError as error:
        return _fail(str(error))
    words += setting("train.dataset_dir", folder)
    for override in arguments.overrides:  # the last one counts
        words += ["--set", override]
    if arguments.cfg_options:
        words += ["--cfg-options", *arguments.cfg_options]
    import main

    return main.main(words)


def setting(key: str, value: object) -> list[str]:
    """Return the arguments of main.py that set a key of the config, none for None."""
    return [] if value is None else ["--set", f"{key}={json.dumps(str(value))}"]


def _fail(text: str, code: int = BAD_CONFIG) -> int:
    sys.stderr.write(f"{text}\n")
    return code
