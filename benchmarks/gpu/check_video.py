"""Steps of ``benchmarks.gpu.check`` on video: decoding by CPU and GPU, streams to tracks."""

import time
from itertools import islice
from typing import Any

import numpy as np

from benchmarks.gpu.check_needs import (
    ON_CUDA,
    Given,
    NotHereError,
    config_of,
    need_gpu,
    need_provider,
    present,
)
from benchmarks.gpu.streams import serve
from recognizer.backends.network import ModelError
from recognizer.video.container import VideoError
from recognizer.video.nvdec import check_nvdec
from recognizer.video.reader import VideoReader

MOST_FRAMES, MOST_FRAMES_TINY = 300, 5


def decode(given: Given) -> dict[str, Any]:
    """Time decoding by the CPU, one thread, from file to BGR pixels."""
    return {"one CPU thread": _decoded(given, None)}


def nvdec(given: Given) -> dict[str, Any]:
    """Time the same by the GPU's decoder, and compare the first pictures with the CPU's."""
    _need_nvdec()
    for video in given.videos:
        with VideoReader(video) as plain, VideoReader(video, gpu=0) as fast:
            for one, other in islice(zip(plain, fast, strict=True), 20):
                same = np.array_equal(one.image.bgr(), other.image.bgr())
                if not same or one.time_s != other.time_s:
                    raise ModelError(f"{video}: frame {one.index} is not the CPU's")
    return {"NVDEC": {**_decoded(given, 0), "pictures": "those of the CPU"}}


def _need_nvdec() -> None:
    need_gpu()
    try:
        check_nvdec(0)
    except VideoError as error:
        remedy = "a container needs NVIDIA_DRIVER_CAPABILITIES=compute,video,utility"
        raise NotHereError(str(error), remedy) from error


def _decoded(given: Given, gpu: int | None) -> dict[str, float]:
    most = MOST_FRAMES_TINY if given.tiny else MOST_FRAMES
    frames, start = 0, time.perf_counter()
    for video in given.videos:
        with VideoReader(video, gpu=gpu) as reader:
            for frame in islice(reader, most):
                frame.image.bgr()
                frames += 1
    return {"frames": frames, "frames_per_s": frames / (time.perf_counter() - start)}


def streams(given: Given) -> dict[str, Any]:
    """Serve so many streams at once with every network; on the CPU where sizes are tiny."""
    return _served(given, None)


def streams_nvdec(given: Given) -> dict[str, Any]:
    """Serve so many streams that the GPU decodes as well."""
    _need_nvdec()
    return _served(given, 0)


def _served(given: Given, gpu: int | None) -> dict[str, Any]:
    where: tuple[str, ...] = ()
    small = ("annotation.batch_size=2",) if given.tiny else ()
    if not given.tiny:
        need_provider("CUDAExecutionProvider")
        where = ON_CUDA
    found = {}
    for network in present(given):
        config = config_of(given, network, *where, *small)
        found[network] = serve(
            config,
            given.videos,
            int(given.argument),
            seconds=0.5 if given.tiny else 15.0,
            warm_up=0.0 if given.tiny else 5.0,
            gpu=gpu,
        )
    return found
