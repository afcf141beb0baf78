"""A clip of ours and a server that plays it by RTSP, for all tests of cameras."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.cameras import encode, rtsp_camera


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``long.mp4`` of five minutes, ``short.mp4`` and ``short.ts``."""
    folder = tmp_path_factory.mktemp("clips")
    encode(folder / "long.mp4", 300)
    encode(folder / "short.mp4", 3)
    encode(folder / "short.ts", 3, format_name="mpegts")
    encode(folder / "large.ts", 3, (320, 192), format_name="mpegts")
    return folder


@pytest.fixture(scope="session")
def rtsp_port(clips: Path) -> Iterator[int]:
    """Serve the clips by RTSP."""
    with rtsp_camera(clips) as port:
        yield port
