"""What the page asks of the running program: sinks whose thread died, the last frame."""

import io
import time

import av
import numpy as np
import pytest

from recognizer.config.live import CameraConfig, SourceConfig
from recognizer.live.fleet import CameraFleet
from recognizer.live.running import LatestPoses, RunningProgram
from recognizer.live.sinks.deliver import Delivery
from recognizer.live.sinks.jsonl import JsonLines
from recognizer.live.still import jpeg_of
from recognizer.live.store import Store
from recognizer.video.array_image import ArrayImage


def decoded(jpeg):
    with av.open(io.BytesIO(jpeg), format="mjpeg") as container:
        return next(container.decode(video=0)).to_ndarray(format="bgr24")


@pytest.mark.parametrize(
    ("size_wh", "sent_wh"), [((64, 48), (64, 48)), ((2561, 1001), (1280, 500))]
)
def test_a_picture_becomes_jpeg_of_its_colours(size_wh, sent_wh):
    bgr = np.full((size_wh[1], size_wh[0], 3), (200, 100, 50), np.uint8)
    shown = decoded(jpeg_of(ArrayImage(bgr)))
    assert shown.shape == (sent_wh[1], sent_wh[0], 3)
    assert shown.reshape(-1, 3).mean(axis=0) == pytest.approx([200, 100, 50], abs=6)


@pytest.fixture
def fleet(tmp_path):
    path = tmp_path / "grey.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        grey = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="bgr24")
        for packet in [*stream.encode(grey), *stream.encode(grey), *stream.encode(None)]:
            container.mux(packet)
    made = CameraFleet([CameraConfig(name="yard", path=path)], SourceConfig())
    made.start()
    yield made
    made.stop()


def test_the_last_frame_is_shown_where_pixels_may_be(fleet):
    open_, hidden = (
        RunningProgram(fleet, LatestPoses(), None, shows_pixels=shows) for shows in (True, False)
    )
    end_s = time.monotonic() + 30
    while open_.still("yard") is None:
        assert time.monotonic() < end_s, "no frame came"
        time.sleep(0.02)
    assert decoded(open_.still("yard")).mean() == pytest.approx(90, abs=6)
    assert open_.still("attic") is None
    assert hidden.still("yard") is None


def test_a_sink_whose_thread_ended_is_named(fleet, tmp_path):
    store = Store(tmp_path / "events.db")
    sinks = {name: Delivery(store, name, JsonLines(tmp_path / name)) for name in ("log", "other")}
    for delivery in sinks.values():
        delivery.start()
    program = RunningProgram(fleet, LatestPoses(), None, sinks=sinks)
    assert program.dead_sinks() == []
    sinks["other"].stop()
    assert program.dead_sinks() == ["other"]
    sinks["log"].stop()
    store.close()
