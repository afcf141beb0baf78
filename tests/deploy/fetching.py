"""Two small official files for the tests of models.fetch."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from deploy import model_zoo
from deploy.fetch import fetch
from recognizer.config.schema import Config
from recognizer.runs.progress import silent
from tests.deploy.bad_server import Server

WEIGHTS = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
NETWORK = np.random.default_rng(1).bytes(200_000)
FILE = model_zoo.OfficialFile("tiny", f"/mm/tiny_8xb32-{SHA256[:8]}_20231211.pth", "a test's")
ARCHIVE = model_zoo.OfficialFile(
    "tiny-onnx", "/mm/sdk/tiny-0badc0de_20231211.zip", "t", "end2end.onnx"
)


def settings(folder: Path, server: Server | None, *names: str, **models: Any) -> Config:
    section = {"fetch": list(names) or ["tiny"], "weights_dirs": [folder], **models}
    return Config.model_validate({"models": {**section, "mirror": server and server.base}})


def run(folder: Path, server: Server | None, *names: str) -> int:
    return fetch(settings(folder, server, *names), silent)


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def archived(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


SDK = archived(("20231211/rtmo/deploy.json", b"{}"), ("20231211/rtmo/end2end.onnx", NETWORK))
