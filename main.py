"""Run one mode of Recognizer: ``python main.py --mode annotation.pipeline``."""

import argparse
import difflib
import importlib
import json
import sys
from pathlib import Path

from recognizer.command import FLAGS, unknown_hint
from recognizer.installation import CALL, INSTALLED, SHIPPED_CONFIG, package_advice
from recognizer.names import printable
from recognizer.terminal import open_closed_streams, show, start, version_text

CLASSIFIER, POSE = "recognizer.training.classifier", "recognizer.training.pose"
# mode -> (module, function, what it does); a module is imported only when its mode runs.
MODES = {
    "annotation.pipeline": ("annotation.pipeline", "pipeline", "stages 1, 2 and 3"),
    "annotation.stage1": ("annotation.pipeline", "stage1", "video -> poses"),
    "annotation.stage2": ("annotation.pipeline", "stage2", "poses -> tracked, ranked people"),
    "annotation.stage3": ("annotation.pipeline", "stage3", "people -> train/val/test pickles"),
    "annotation.visualize": ("annotation.pipeline", "overlay", "overlay videos of stage 1 or 2"),
    "annotation.from_reviews": ("annotation.from_reviews", "from_reviews", "reviews -> tracks"),
    "annotation.distill": ("annotation.distill", "distill", "video -> COCO data by a teacher"),
    "train.fight": (f"{CLASSIFIER}.train", "train_fight", "pickles -> a trained fight classifier"),
    "train.falldown": (f"{CLASSIFIER}.train", "train_falldown", "the same for falls"),
    "train.movement": (f"{CLASSIFIER}.movement", "train_movement", "the movement stream beside it"),
    "train.pose": (f"{POSE}.train", "train_pose", "COCO-format data -> a trained pose network"),
    "train.check": (f"{POSE}.sanity_check", "check", "some iterations of train.pose, looked at"),
    "train.ablation": (f"{POSE}.ablation", "ablation", "several configs trained and compared"),
    "test.fight": (f"{CLASSIFIER}.evaluate", "test_fight", "numbers and plots of a classifier"),
    "test.falldown": (f"{CLASSIFIER}.evaluate", "test_falldown", "the same for falls"),
    "test.pose": (f"{POSE}.train", "test_pose", "AP of a trained pose network on COCO"),
    "test.crossval": (f"{CLASSIFIER}.crossval", "crossval", "k-fold cross-validation by source"),
    "inference.analysis": ("recognizer.analysis.run", "analyse", "video -> events, JSON, overlay"),
    "inference.realtime": ("recognizer.live.run", "realtime", "cameras -> events, as they happen"),
    "models.fetch": ("deploy.fetch", "fetch", "official network files, checked by their digests"),
    "deploy.export": ("deploy.export", "export", "checkpoint -> ONNX file, verified"),
    "deploy.tensorrt": ("deploy.tensorrt", "build", "ONNX file -> TensorRT engine"),
    "deploy.verify": ("deploy.verify", "verify", "the same frames through every backend"),
    "deploy.benchmark": ("deploy.benchmark", "benchmark", "latency of every backend here"),
    "convert.sdpose": (f"{POSE}.convert", "convert", "a published SDPose checkpoint -> ours"),
    "demo": ("annotation.demo", "demo", "the pipeline and a short training on samples/"),
    "doctor": ("annotation.console", "doctor", "what is missing here, and what mends it"),
}
if INSTALLED:  # without the samples that it trains on
    del MODES["demo"]
EXIT_FAILED, EXIT_BAD_CONFIG = 1, 2


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(CALL, add_help=False, allow_abbrev=False)
    parser.add_argument("--mode")
    parser.add_argument("--list-modes", action="store_true")
    parser.add_argument("--config", type=Path, default=SHIPPED_CONFIG)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    for flag in FLAGS:  # not given, and given as 0 or false, are two things
        parser.add_argument(flag.name, default=None, **flag.options)
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("-h", "--help", action="store_true")
    parser.usage = f"{CALL} --mode MODE [--config FILE] [--set KEY=VALUE ...]; --help shows more"
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        hint = unknown_hint(unknown[0], MODES if arguments.mode is None else ())
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if arguments.mode is None and not (arguments.list_modes or arguments.help or arguments.version):
        parser.error("--mode or --list-modes is needed")
    if arguments.mode is not None and arguments.mode not in MODES:
        close = difflib.get_close_matches(arguments.mode, MODES, n=1, cutoff=0.5)
        guess = f"did you mean {close[0]}?" if close else "--list-modes shows all"
        parser.error(f"--mode {arguments.mode}: there is no such mode; {guess}")
    for flag in FLAGS:
        value = getattr(arguments, flag.name[2:].replace("-", "_"))
        if value is None or arguments.mode is None:
            continue
        if arguments.mode not in flag.modes:
            parser.error(
                f"{flag.name}: --mode {arguments.mode} does not take it; it belongs to "
                f"{', '.join(flag.modes)}"
            )
        arguments.overrides.append(f"{flag.modes[arguments.mode]}={json.dumps(value)}")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Parse the command line, load the config, run the mode; return the exit code."""
    open_closed_streams()
    arguments = _arguments(argv)
    if arguments.version:
        return show(version_text())
    if arguments.help or arguments.list_modes:
        from annotation.mode_help import help_text, list_text

        about = {name: text for name, (_, _, text) in MODES.items()}
        return show(help_text(about, arguments.mode) if arguments.help else list_text(about))
    try:
        start(arguments.mode, debug=arguments.debug)
        return _run(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; the same command goes on from here, a training with --resume\n")
        return 130
    except ModuleNotFoundError as error:
        return _fail(EXIT_FAILED, _advice(error), show=arguments.debug)


def _run(arguments: argparse.Namespace) -> int:
    from recognizer.config.file import ConfigError, load_config

    try:
        config = load_config(arguments.config, arguments.overrides)
        module, function, _ = MODES[arguments.mode]
        from recognizer.runs.progress import on_console

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
    missing = f"the package {error.name} is not installed for {sys.executable}"
    return RuntimeError(f"{missing}; {package_advice(error.name or '')}")


def _fail(code: int, error: Exception, *, show: bool) -> int:
    if show:
        raise error
    sys.stderr.write(printable(f"{type(error).__name__}: {error}\n", keep="\n\t"))
    return code


if __name__ == "__main__":
    sys.exit(main())
