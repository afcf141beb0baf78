"""Run one mode of Recognizer: ``python main.py --mode annotation.pipeline``."""

import argparse
import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent

# mode -> (module, function, what it does); a module is imported only when it is wanted.
MODES = {
    "annotation.pipeline": ("annotation.pipeline", "pipeline", "stages 1, 2 and 3"),
    "annotation.stage1": ("annotation.pipeline", "stage1", "video -> poses"),
    "annotation.stage2": ("annotation.pipeline", "stage2", "poses -> tracked, ranked people"),
    "annotation.stage3": ("annotation.pipeline", "stage3", "people -> train/val/test pickles"),
    "annotation.visualize": ("annotation.pipeline", "overlay", "overlay videos of stage 1 or 2"),
    "train.fight": ("training.train", "train_fight", "pickles -> a trained fight classifier"),
    "train.falldown": ("training.train", "train_falldown", "the same for falls"),
    "train.pose": ("training.pose", "train_pose", "COCO-format data -> a trained SDPose"),
    "train.check": ("training.pose_check", "check", "some iterations of train.pose, looked at"),
    "train.ablation": ("training.ablation", "ablation", "several configs trained and compared"),
    "test.fight": ("training.test", "test_fight", "how good a fight classifier is: numbers, plots"),
    "test.falldown": ("training.test", "test_falldown", "the same for falls"),
    "test.pose": ("training.pose", "test_pose", "AP of a trained pose network on COCO"),
    "test.crossval": ("training.crossval", "crossval", "k-fold cross-validation by source"),
    "inference.analysis": ("analysis.run", "analyse", "new video -> events, JSON, overlay"),
    "models.fetch": ("deploy.fetch", "fetch", "official network files, checked by their digests"),
    "deploy.export": ("deploy.export", "export", "checkpoint -> ONNX file, verified"),
    "deploy.tensorrt": ("deploy.tensorrt", "build", "ONNX file -> TensorRT engine"),
    "deploy.verify": ("deploy.verify", "verify", "the same frames through every backend"),
    "deploy.benchmark": ("deploy.benchmark", "benchmark", "latency of every backend here"),
    "convert.sdpose": ("training.convert", "convert", "a published SDPose checkpoint -> ours"),
    "demo": ("training.demo", "demo", "the pipeline and a short training on samples/"),
    "doctor": ("annotation.console", "doctor", "what is missing here, and what mends it"),
}
# Of a flag that is given twice, both count.
_SEVERAL: dict[str, Any] = {"nargs": "+", "action": "extend"}
# flag -> (the key that it sets, how it is read)
SHORTCUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "--train-config": ("train.config_file", {**_SEVERAL, "metavar": "FILE"}),
    "--cfg-options": ("train.cfg_options", {**_SEVERAL, "metavar": "KEY=VALUE"}),
    "--resume": ("train.resume", {"nargs": "?", "const": True, "metavar": "auto|FILE"}),
    "--iterations": ("train.check_iterations", {"type": int, "metavar": "N"}),
    "--seeds": ("ablation.seeds", {**_SEVERAL, "type": int, "metavar": "SEED"}),
    "--checkpoint": ("test.checkpoint", {**_SEVERAL, "metavar": "FILE"}),
    "--source": ("convert.source", {"metavar": "FILE", "help": "a published checkpoint"}),
    "--out": ("convert.out", {"metavar": "FILE", "help": "the file to write"}),
}
EXIT_FAILED, EXIT_BAD_CONFIG = 1, 2


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("main.py", description="CCTV video to fight, fall detectors")
    parser.add_argument("--mode", choices=MODES, metavar="MODE", help="see --list-modes")
    parser.add_argument("--list-modes", action="store_true", help="list the modes and stop")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "config.yaml")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
        help="replace a key of the config, such as annotation.workers=2",
    )  # fmt: skip
    for flag, (_, options) in SHORTCUTS.items():
        parser.add_argument(flag, **options)
    parser.add_argument("--debug", action="store_true", help="log more, and show tracebacks")
    arguments = parser.parse_args(argv)
    if not arguments.list_modes and arguments.mode is None:
        parser.error("--mode or --list-modes is needed")
    for flag, (key, _) in SHORTCUTS.items():
        value = getattr(arguments, flag[2:].replace("-", "_"))
        if value is not None and value is not False:  # 0 is a value
            arguments.overrides.append(f"{key}={json.dumps(value)}")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, load the config, run the mode; return the exit code."""
    arguments = _arguments(argv)
    if arguments.list_modes:
        width = max(map(len, MODES))
        sys.stdout.writelines(f"{name:{width}}  {text}\n" for name, (_, _, text) in MODES.items())
        return 0
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here, a training with --resume\n")
        return 130
    except ModuleNotFoundError as error:
        return _fail(EXIT_FAILED, _advice(error), show=arguments.debug)


def _run(arguments: argparse.Namespace) -> int:
    from recognizer.config_file import ConfigError, load_config

    try:
        config = load_config(arguments.config, arguments.overrides)
        module, function, _ = MODES[arguments.mode]
        from annotation.progress import on_console

        code: int = getattr(importlib.import_module(module), function)(config, on_console)
    except ConfigError as error:
        return _fail(EXIT_BAD_CONFIG, error, show=arguments.debug)
    except (ValueError, OSError, RuntimeError) as error:
        return _fail(EXIT_FAILED, error, show=arguments.debug)
    except (ArithmeticError, LookupError, TypeError, AttributeError, MemoryError) as error:
        fault = RuntimeError(f"internal error: {type(error).__name__}: {error}; see --debug")
        return _fail(EXIT_FAILED, error if arguments.debug else fault, show=arguments.debug)
    return code


def _advice(error: ModuleNotFoundError) -> RuntimeError:
    wanted = ROOT / ".venv" / "bin" / "python"
    return RuntimeError(
        f"the package {error.name} is not installed for {sys.executable}; run `make setup` in "
        f"{ROOT} and start with {wanted}"
    )


def _fail(code: int, error: Exception, *, show: bool) -> int:
    if show:
        raise error
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
