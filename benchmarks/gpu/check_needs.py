"""Needs of the steps of ``benchmarks.gpu.check``, what this machine lacks, and their configs."""

import importlib.util
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks._command import CONFIG, WEIGHTS
from recognizer.backends.cuda import driver_remedy, driver_version
from recognizer.config.file import load_config
from recognizer.config.schema import Config

NOT_HERE = 77
POSE = "models.pose_estimation"
ON_CUDA = (f"{POSE}.onnx.device=cuda:0", f"{POSE}.topdown.detector.device=cuda:0")
NETWORKS = ("topdown", "rtmo", "rtmo_uint8")
"""The config's detector and pose network; RTMO-s of seed weights, of float and 8-bit input."""
NO_DRIVER = "no NVIDIA driver"
INSTALL = "make setup-train RUNTIME=tensorrt"
INSTALL_GPU = "make setup-train RUNTIME=gpu"


class NotHereError(Exception):
    """Something that a step needs and this machine lacks; ``remedy`` is the command."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.remedy = remedy


@dataclass(frozen=True)
class Given:
    """Arguments of a step."""

    out: Path
    videos: tuple[Path, ...]
    tiny: bool
    argument: str = ""

    @property
    def models(self) -> Path:
        """Folder of the networks that are made here."""
        return self.out / "models"


# --- what is here ------------------------------------------------------------------


def need_gpu() -> None:
    """Raise NotHereError without an NVIDIA driver."""
    if not driver_version():
        raise NotHereError(NO_DRIVER, driver_remedy())


def need_provider(name: str) -> None:
    """Raise NotHereError where ONNX Runtime lacks a provider, or the machine a GPU."""
    need_package("onnxruntime", INSTALL)
    import onnxruntime

    if name not in onnxruntime.get_available_providers():
        remedy = INSTALL if name.startswith("Tensorrt") else INSTALL_GPU
        raise NotHereError(f"{name} is not in this ONNX Runtime", remedy)
    need_gpu()


def need_package(module: str, remedy: str) -> None:
    """Raise NotHereError without a package."""
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise NotHereError(f"the package {module} is not installed", remedy)


def missing() -> list[tuple[str, str]]:
    """Return what a GPU server should have and this machine lacks: cause and command."""
    found = []
    for check in (
        need_gpu,
        lambda: need_provider("CUDAExecutionProvider"),
        lambda: need_provider("TensorrtExecutionProvider"),
        lambda: need_package("tensorrt", INSTALL),
        lambda: need_package("mmpose", INSTALL),
    ):
        try:
            check()
        except NotHereError as lacking:
            found.append((str(lacking), lacking.remedy))
    return list(dict.fromkeys(found))


def config_of(given: Given, network: str, *settings: str) -> Config:
    """Return the shipped config with one of the networks and further ``key=value``."""
    own = {
        "topdown": [],
        "rtmo": [f"{POSE}.onnx.model_path={given.models / 'rtmo-s.onnx'}"],
        "rtmo_uint8": [f"{POSE}.onnx.model_path={given.models / 'rtmo-s_uint8.onnx'}"],
    }[network]
    side = "[256, 256]" if given.tiny else "[640, 640]"
    if network != "topdown":
        own += [
            f"{POSE}.kind=rtmo",
            f"{POSE}.onnx.model_input_size={side}",
            f"{POSE}.tensorrt.model_input_size={side}",
        ]
    return load_config(CONFIG, [WEIGHTS, *own, *settings])


def present(given: Given) -> list[str]:
    """Return the networks whose files are here; raise NotHereError where there is none."""
    from recognizer.runs.stage_folders import pose_model_files

    found = []
    for network in NETWORKS:
        try:
            pose_model_files(config_of(given, network))
        except ValueError:  # ConfigError
            continue
        found.append(network)
    if not found:
        raise NotHereError(
            "no network: neither those of the config nor an RTMO-s made by the step `networks`",
            f"put the two networks of configs/config.yaml into weights/, and {INSTALL}",
        )
    return found


def need_topdown(given: Given) -> None:
    """Raise NotHereError without the config's detector and pose network."""
    if "topdown" not in present(given):
        raise NotHereError(
            "the config's detector and pose network are not here", "put their files into weights/"
        )


def pictures(given: Given, count: int) -> list[Any]:
    """Return frames of the first videos, two per second, as arrays."""
    from recognizer.video.array_image import ArrayImage
    from recognizer.video.reader import VideoReader

    found: list[Any] = []
    for video in given.videos:
        with VideoReader(video, sample_fps=2.0) as reader:
            found += [ArrayImage(frame.image.bgr().copy()) for frame in islice(reader, count)]
    return found[:count]
