"""One whole picture from the two fields of every frame that the decoder calls interlaced."""

from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import av


@dataclass(frozen=True, eq=False, slots=True)
class DecodedFrame:
    """A decoded frame.

    Attributes:
        frame: its pixels.
        stamp: its time in units of the stream, None if it has none.
        corrupt: the decoder flags it as damaged.
        aspect: width of its pixels divided by their height.

    """

    frame: av.VideoFrame
    stamp: int | None
    corrupt: bool
    aspect: Fraction

    @property
    def size_wh(self) -> tuple[int, int]:
        """Stored width and height in pixels."""
        return self.frame.width, self.frame.height


class Deinterlacer:
    """Give one progressive picture for every picture, in order; others pass untouched.

    The filter (ffmpeg's bwdif) looks at the neighbours of a frame. Until the first interlaced
    frame nothing is computed.

    Attributes:
        interlaced: pictures that were interlaced.
        problems: why pictures stayed as they were, with their number.

    """

    def __init__(self) -> None:
        self.interlaced = 0
        self.problems: Counter[str] = Counter()

    def __call__(self, pictures: Iterable[DecodedFrame]) -> Generator[DecodedFrame, None, None]:
        """Yield the pictures, those that are interlaced made whole."""
        graph: _FilterGraph | None = None
        before: DecodedFrame | None = None
        for picture in pictures:
            if graph is not None and not graph.fits(picture):
                yield from graph.finish()
                graph = before = None
            if graph is None and picture.frame.interlaced_frame:
                graph = self._start(picture, before)
            self.interlaced += bool(picture.frame.interlaced_frame)
            if graph is None:
                yield picture
            else:
                yield from graph.feed(picture)
            before = picture
        if graph is not None:
            yield from graph.finish()

    def _start(self, picture: DecodedFrame, before: DecodedFrame | None) -> "_FilterGraph | None":
        try:
            graph = _FilterGraph(picture)
            if before is not None and graph.fits(before):
                graph.see(before)
        except (av.FFmpegError, ValueError) as error:
            self.problems[f"interlaced, cannot be deinterlaced: {error}"] += 1
            return None
        return graph


class _FilterGraph:
    """The filter, for pictures of one size and format."""

    def __init__(self, first: DecodedFrame) -> None:
        self._form = _form(first)
        self._waiting: deque[DecodedFrame | None] = deque()
        frame = first.frame
        self._graph = av.filter.Graph()
        self._graph.threads = 1
        source = self._graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base="1/1000",
            pixel_aspect="1/1",
            colorspace=str(int(frame.colorspace)),
            range=str(int(frame.color_range)),
        )
        bwdif = self._graph.add("bwdif", mode="send_frame", deint="interlaced")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink"))
        self._graph.configure()

    def fits(self, picture: DecodedFrame) -> bool:
        """Tell whether a picture has the size and format of the first."""
        return _form(picture) == self._form

    def see(self, picture: DecodedFrame) -> None:
        """Take a picture that was yielded already, as the neighbour of the next."""
        self._waiting.append(None)
        self._graph.vpush(picture.frame)

    def feed(self, picture: DecodedFrame) -> Iterator[DecodedFrame]:
        """Take a picture and yield those that are finished."""
        self._waiting.append(picture)
        self._graph.vpush(picture.frame)
        return self._finished()

    def finish(self) -> Iterator[DecodedFrame]:
        """Yield the rest."""
        self._graph.vpush(None)
        return self._finished()

    def _finished(self) -> Iterator[DecodedFrame]:
        while True:
            try:
                frame = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            picture = self._waiting.popleft()
            if picture is not None:
                yield replace(picture, frame=frame)


def _form(picture: DecodedFrame) -> tuple[tuple[int, int], str, int, int]:
    frame = picture.frame
    return picture.size_wh, frame.format.name, int(frame.colorspace), int(frame.color_range)
