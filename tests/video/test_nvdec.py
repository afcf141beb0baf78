"""The GPU's decoder: what is refused without one, and that its pictures would look the same."""

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from annotation import console
from recognizer.config.file import load_config
from recognizer.config.schema import AnnotationConfig, Config
from recognizer.runs import stage1
from recognizer.runs.progress import silent
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.worker_pool import RunError
from recognizer.video import nvdec
from recognizer.video.container import VideoError, open_container
from recognizer.video.display import Crop, Display, Orientation
from recognizer.video.image import Converter, DecodedImage
from recognizer.video.nvdec import check_codec, check_nvdec
from recognizer.video.reader import VideoReader
from recognizer.video.writer import VideoWriter
from tests import networks

SIZE_WH = (64, 48)


def here():
    try:
        check_nvdec(0)
    except VideoError:
        return False
    return True


HERE = here()


def clip(path, frames=10):
    random = np.random.default_rng(0)
    with VideoWriter(path, SIZE_WH, 10.0) as writer:
        for number in range(frames):
            ramp = np.linspace(0, 250, SIZE_WH[0], dtype=np.uint8)[None, :, None]
            picture = np.roll(np.broadcast_to(ramp, (48, 64, 3)), 5 * number, 1).copy()
            picture[10:20, 10:20] = random.integers(0, 255, 3)
            writer.write(picture, number / 10)
    return path


@pytest.mark.skipif(HERE, reason="a GPU decodes here")
def test_without_a_gpu_the_message_says_what_to_do(tmp_path):
    path = clip(tmp_path / "a.mp4")
    with pytest.raises(
        VideoError,
        match=r"nvdec: expected NVIDIA's driver and GPU number 0, .*"
        r"nvidia-smi.*or set annotation\.decoder: cpu",
    ):
        VideoReader(path, gpu=0)
    with VideoReader(path) as reader:
        assert len(list(reader)) == 10


@pytest.mark.skipif(HERE, reason="a GPU decodes here")
def test_stage_1_stops_before_any_work(tmp_path):
    (tmp_path / "in").mkdir()
    clip(tmp_path / "in" / "a.mp4")
    networks.rtmo(tmp_path / "rtmo.onnx")
    shipped = Path(__file__).resolve().parents[2] / "configs" / "config.yaml"
    config = load_config(
        shipped,
        [
            f"annotation.input={tmp_path / 'in'}",
            f"annotation.output_dir={tmp_path / 'out'}",
            f"models.pose_estimation.onnx.model_path={tmp_path / 'rtmo.onnx'}",
            "annotation.decoder=nvdec",
            "annotation.workers=1",
        ],
    )
    with pytest.raises(RunError, match=r"annotation\.decoder: nvdec: expected NVIDIA's driver"):
        run_stage1(config)
    assert not list((tmp_path / "out").rglob("*.npz"))


@pytest.mark.parametrize("gpus", [[], [0, 1]])
def test_the_doctor_tries_the_decoder_of_each_gpu(monkeypatch, capsys, gpus):
    def only_gpu_1(number):
        if number != 1:
            raise VideoError(f"annotation.decoder: nvdec: expected GPU {number}; set cpu")

    monkeypatch.setattr(stage1, "check_nvdec", only_gpu_1)
    monkeypatch.setattr(console, "examine", lambda config: [])
    section = AnnotationConfig(decoder="nvdec", gpus=gpus)
    assert console.doctor(Config(annotation=section), silent) == 1
    lines = capsys.readouterr().out.splitlines()
    name = "annotation.decoder: nvdec"
    if gpus:
        assert lines[0] == f"MEND      {name}, GPU 0: expected GPU 0"
        assert lines[2] == f"ok        {name}, GPU 1: GPU number 1 decodes"
    else:
        assert lines[0] == f"MEND      {name}: expected GPU 0"
    assert lines[1] == "          -> set cpu"
    assert console.doctor(Config(), silent) == 0
    assert name not in capsys.readouterr().out


def test_a_pyav_without_nvdec_is_distinguished_from_a_missing_gpu(monkeypatch):
    def none(*arguments, **options):
        raise NotImplementedError("No supported hardware config")

    check_nvdec.cache_clear()
    monkeypatch.setattr(nvdec, "accelerator", lambda gpu: SimpleNamespace(create=none))
    with pytest.raises(VideoError, match=r"expected a PyAV with NVDEC.*pip install"):
        check_nvdec(0)
    check_nvdec.cache_clear()


def test_this_pyav_has_nvdec_for_the_codecs_of_cameras():
    for name in ("h264", "hevc", "av1", "mjpeg", "mpeg4", "mpeg2video", "vp9"):
        kinds = {config.device_type.name for config in av.Codec(name, "r").hardware_configs or ()}
        assert "cuda" in kinds, name


def test_a_codec_that_the_gpu_does_not_know_is_named(tmp_path):
    with open_container(clip(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context  # a CPU's: what PyAV leaves of such a one
        with pytest.raises(VideoError, match=r"a\.mp4: .*nvdec: expected a codec.*got h264; set"):
            check_codec(codec, tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("planar", "interleaved"),
    [
        ("yuv420p", "nv12"),
        ("yuv422p", "nv16"),
        ("yuv420p10le", "p010le"),
        ("yuv422p10le", "p210le"),
        ("yuv420p12le", "p012le"),
        ("yuv420p16le", "p016le"),
    ],
)
@pytest.mark.parametrize("requested", [None, (32, 24)])
@pytest.mark.parametrize(("matrix", "levels"), [(2, 0), (1, 1), (1, 2), (9, 1)])
def test_pictures_as_the_gpu_gives_them_look_the_same(
    planar, interleaved, requested, matrix, levels
):
    random = np.random.default_rng(3)
    noise = random.integers(16, 235, (*SIZE_WH[::-1], 3)).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(noise, format="bgr24").reformat(format=planar)
    other = frame.reformat(format=interleaved)
    for one in (frame, other):  # as the stream tags them
        one.colorspace, one.color_range = matrix, levels
    display = Display(SIZE_WH, Crop(), Fraction(1), Orientation())
    first, second = (DecodedImage(f, Converter(display)).bgr(requested) for f in (frame, other))
    assert first.shape == second.shape
    np.testing.assert_array_equal(first, second)


@pytest.mark.skipif(not HERE, reason="needs a GPU")
def test_the_gpu_decodes_what_the_cpu_decodes(tmp_path):
    path = clip(tmp_path / "a.mp4", 50)
    with VideoReader(path) as plain, VideoReader(path, gpu=0) as fast:
        pairs = list(zip(plain, fast, strict=True))
        assert plain.size_wh == fast.size_wh
    assert plain.account == fast.account
    for one, other in pairs:
        assert (one.index, one.time_s, one.corrupt) == (other.index, other.time_s, other.corrupt)
        np.testing.assert_array_equal(one.image.bgr(), other.image.bgr())
