"""Find the model file that a config names, or say how to get it."""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from recognizer.config.file import ConfigError
from recognizer.installation import COMMAND

# A common name of RTMO as ONNX, ours, and the names of the official checkpoints.
_RTMO = re.compile(r"(end2end_|rtmo-)([tsml])([-_].*)?\.(onnx|pth)")
_RTMPOSE = re.compile(r"(rtmpose-[tsmlx]|yolox-(tiny|m|x)-person|rtmdet-nano-person)\.onnx")
_MOST_SHOWN = 300  # letters of a path
_PUT = "put it into one of these places, or --set models.weights_dirs=[<folder>]"
_POSE = "models.pose_estimation"
# What to set, by how a key ends.
_NEXT = {
    "tensorrt.model_path": (
        f"inference_mode tensorrt runs an ONNX file by the engine that `{COMMAND} --mode "
        f"deploy.tensorrt --set deploy.model=pose --set {_POSE}.tensorrt.model_path=<file>.onnx` "
        f"builds of it; then --set {_POSE}.tensorrt.model_path=<file>.onnx here too"
    ),
    "pth.checkpoint_path": (
        f"set it to the .pth that was trained with {_POSE}.pth.config_file, an mmpose config; "
        f"official ones: {COMMAND} --mode models.fetch --set models.fetch=rtmo-l"
    ),
    "onnx.model_path": (
        f"set it to an ONNX file of a pose network; official ones: {COMMAND} --mode "
        "models.fetch --set models.fetch=rtmo-l-onnx"
    ),
    "detector.model_path": (
        "set it to an ONNX file of a person detector (YOLOX, RTMDet, or one in mmdeploy's end2end "
        "form)"
    ),
}


def find_file(name: str, folders: Sequence[Path]) -> Path:
    """Return the file of that name: in the working folder, else in the first of ``folders``.

    Raises:
        FileNotFoundError: there is none; its text is the list of the places searched.

    """
    places = [Path(name).expanduser()]
    if not places[0].is_absolute():
        places += [folder / name for folder in folders]
    for place in places:
        with contextlib.suppress(OSError):  # a name too long for the disk is the name of no file
            if place.is_file():
                return place.absolute()
    raise FileNotFoundError(", ".join(shortened(str(place.absolute())) for place in places))


def find_model_file(name: str, folders: Sequence[Path], key: str, advice: str = _PUT) -> Path:
    """Return the model file that a config key names, found as ``find_file`` does.

    Args:
        name: the key's value.
        folders: those of ``models.weights_dirs``.
        key: the config's key, for the message.
        advice: what to do where the file is missing.

    Raises:
        ConfigError: the key is empty, or there is no such file; the message lists where it was
            looked for.

    """
    if not name:
        raise ConfigError(unset(key))
    try:
        return find_file(name, folders)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{key}: expected a model file '{shortened(name)}', found none at {error}; {advice}"
            f"{fetch_hint(name, key)}"
        ) from error


def shortened(text: str) -> str:
    """Return text for a message: of a very long one its beginning."""
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def unset(key: str) -> str:
    """Return what to say of a key that names no model file, and what to do next."""
    steps = [text for end, text in _NEXT.items() if key.endswith(end)]
    return f"{key} is not set: {steps[0] if steps else 'set it to a model file'}"


def fetch_hint(name: str, key: str) -> str:
    """Return how a missing model file can be fetched, "" for a file that is not official.

    Args:
        name: the file that a config names.
        key: the config's key.

    """
    if (match := _RTMPOSE.fullmatch(Path(name).name)) is not None:
        return f"; {COMMAND} --mode models.fetch --set models.fetch={match[1]}-onnx fetches it"
    match = _RTMO.fullmatch(Path(name).name)
    if match is None:
        return ""
    source, size, rest, kind = match.groups()
    stem = f"{source}{size}"
    official = stem if kind == "pth" or source == "end2end_" else f"{stem}-onnx"
    kept = Path(name).name if kind == "pth" else f"{stem}.onnx"
    if kind == "pth" and not rest:
        kept = "<the name it shows>"  # official checkpoints have longer names
    text = f"; {COMMAND} --mode models.fetch --set models.fetch={official} fetches it"
    if kept != name:
        text += f" into models.weights_dirs, then --set {key}={kept}"
    return text
