"""Decoding by NVDEC, the video decoder of an NVIDIA GPU, which the FFmpeg in PyAV's wheel drives.

Containers, times, flags of damage and colour tags are FFmpeg's as with a CPU (PyAV 18 copies them
with the picture); only the pictures come from the GPU, copied to the host's memory as NV12 or P010
(the samples of a CPU's decoder, with the two colour planes interleaved). Needs the driver's
libraries libcuda and libnvcuvid, and no package.
"""

from functools import cache
from pathlib import Path

import av
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel

from recognizer.video.container import VideoError, reason_of

_KEY = "annotation.decoder: nvdec"
_USE_CPU = "set annotation.decoder: cpu"
_COMMON = "h264"


def accelerator(gpu: int) -> HWAccel:
    """Return the ``hwaccel`` of ``av.open`` that decodes on GPU number ``gpu`` and nowhere else."""
    return HWAccel("cuda", device=gpu, allow_software_fallback=False)


@cache  # once a process: it takes a tenth of a second
def check_nvdec(gpu: int) -> None:
    """Refuse a machine on which no NVIDIA GPU decodes.

    Raises:
        VideoError: this FFmpeg has no NVDEC, or there is no driver or no such GPU.

    """
    try:
        accelerator(gpu).create(av.Codec(_COMMON, "r"))
    except NotImplementedError as error:
        raise VideoError(
            f"{_KEY}: expected a PyAV with NVDEC, which its own wheel has (pip install "
            f"--force-reinstall av==18.1.0); got {av.__version__} without; or {_USE_CPU}"
        ) from error
    except (av.FFmpegError, OSError) as error:
        raise VideoError(
            f"{_KEY}: expected NVIDIA's driver and GPU number {gpu}, FFmpeg said: "
            f"{reason_of(error)}; nvidia-smi shows both; a container gets them by the NVIDIA "
            "Container Toolkit with NVIDIA_DRIVER_CAPABILITIES=compute,video,utility; or "
            f"{_USE_CPU}"
        ) from error


def check_codec(codec: CodecContext, path: Path) -> None:
    """Refuse a stream in a codec that NVDEC does not know.

    Raises:
        VideoError: such a codec.

    """
    if not codec.is_hwaccel:
        raise VideoError(
            f"{path}: {_KEY}: expected a codec that NVDEC decodes (H.264, HEVC, AV1, VP8, VP9, "
            f"MPEG-1, -2 and -4, VC-1, MJPEG), got {codec.name}; {_USE_CPU}"
        )
