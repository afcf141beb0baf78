"""Tell a lost picture from a second field: two packets may hold one interlaced picture."""

import av

_DELAY = 64  # packets after which a decoder has surely given their picture


class FieldPairs:
    """Count packets that hold only the second field of a picture.

    H.264 may code the two fields of a picture apart; they come as two packets with times of
    their own, and the picture has the time of the first. So a packet without a picture of its
    own, right after that of an interlaced picture, is its second field. In a bare stream,
    which has no times, twice as many packets as pictures, all interlaced, are pairs.
    """

    def __init__(self) -> None:
        self._packets = 0
        self._number_at: dict[int, int] = {}
        self._with_picture: set[int] = set()
        self._candidates: set[int] = set()
        self._settled = 0
        self._interlaced = 0
        self._has_times = False

    def add_packet(self, stamp: int | None) -> None:
        """Take the next packet's presentation time."""
        self._packets += 1
        if stamp is not None:
            self._number_at[stamp] = self._packets
            self._has_times = True
        if self._packets % _DELAY == 0:
            self._forget(self._packets - _DELAY)

    def add_picture(self, frame: av.VideoFrame) -> None:
        """Take a decoded picture."""
        self._interlaced += bool(frame.interlaced_frame)
        number = self._number_at.pop(frame.pts, None) if frame.pts is not None else None
        if number is None:
            return
        self._with_picture.add(number)
        if frame.interlaced_frame:
            self._candidates.add(number + 1)

    @property
    def second_fields(self) -> int:
        """Packets so far that hold a second field."""
        if not self._has_times:
            return self._interlaced if self._packets == 2 * self._interlaced else 0
        single = self._candidates - self._with_picture
        return self._settled + sum(number <= self._packets for number in single)

    def _forget(self, before: int) -> None:
        single = self._candidates - self._with_picture
        self._settled += sum(number < before for number in single)
        self._candidates = {n for n in self._candidates if n >= before}
        self._with_picture = {n for n in self._with_picture if n >= before}
        self._number_at = {s: n for s, n in self._number_at.items() if n >= before}
