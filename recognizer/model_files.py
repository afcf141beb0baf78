"""Model files that are not there: the command that fetches them, where there is one."""

import re
from pathlib import Path

# The guide's name of RTMO as ONNX, ours, and the names of the official checkpoints.
_RTMO = re.compile(r"(end2end_|rtmo-)([tsml])(?:[-_].*)?\.(onnx|pth)")


def fetch_hint(name: str, key: str) -> str:
    """Return how a missing model file can be fetched, "" for one that is none of the official.

    Args:
        name: the file that a config names.
        key: the config's key.

    """
    match = _RTMO.fullmatch(Path(name).name)
    if match is None:
        return ""
    source, size, kind = match.groups()
    official = f"rtmo-{size}" if kind == "pth" else f"rtmo-{size}-onnx"
    official = f"end2end_{size}" if source == "end2end_" else official
    text = f"; python main.py --mode models.fetch --set models.fetch={official} fetches it"
    if Path(name).name != name:
        text += f" into models.weights_dirs, then --set {key}={Path(name).name}"
    return text
