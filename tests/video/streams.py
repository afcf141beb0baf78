"""Video streams of the containers that tests write."""

from av.container import OutputContainer
from av.video.stream import VideoStream


def add_video(container: OutputContainer, codec: str, fps: int) -> VideoStream:
    """Add a video stream to a container."""
    stream = container.add_stream(codec, rate=fps)
    assert isinstance(stream, VideoStream)
    return stream
