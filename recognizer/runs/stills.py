"""Single pictures of videos, as background of the skeletons on contact sheets."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from recognizer.config.schema import Config
from recognizer.installation import cpu_cores
from recognizer.runs.inputs import video_path
from recognizer.runs.manifest import Outcome, Progress, Settings
from recognizer.runs.progress import ProgressFactory, silent
from recognizer.types import Frame, ImageArray

logger = logging.getLogger(__name__)

# Seeking does not give exactly the frames of a run, so everything before a picture is decoded;
# pictures later than this would take too long.
LATEST_S = 60.0
_MAX_THREADS = 8  # of the decoder; more do not make it faster
_ROUNDING_S = 1e-6  # as windows are cut, recognizer.dataset.windows


@dataclass(frozen=True, eq=False, slots=True)
class Moments:
    """Frames of a part of a video.

    Attributes:
        video: path inside the input folder.
        start_s: start of the part.
        stop_s: its end, exclusive.
        frames: number that stage 1 read in it; a video with another number is not the same.
        picks: indices of the frames, ascending.
        size_wh: size that the keypoints refer to, pixels.
        crop: returns the part of a picture to keep.

    """

    video: str
    start_s: float
    stop_s: float
    frames: int
    picks: Sequence[int]
    size_wh: tuple[int, int]
    crop: Callable[[ImageArray], ImageArray]


@dataclass(frozen=True, slots=True)
class Stills:
    """Reads pictures of the videos as stage 1 did."""

    config: Config
    sample_fps: float | None

    def read(
        self, moments: Mapping[str, Moments], progress: ProgressFactory = silent
    ) -> dict[str, list[ImageArray]]:
        """Return the pictures by name, of those whose video is available.

        At most the first ``LATEST_S`` seconds of each video are decoded. Samples whose video is
        missing, cannot be read or has other frames, or that are late in it, are counted in
        warnings.
        """
        by_video: dict[str, dict[str, Moments]] = {}
        late: list[str] = []
        for name, part in moments.items():
            if part.stop_s > LATEST_S:
                late.append(part.video)
            else:
                by_video.setdefault(part.video, {})[name] = part
        problems = {f"later in the video than {LATEST_S:g} s": late} if late else {}
        pictures: dict[str, list[ImageArray]] = {}
        if by_video:
            with progress("pictures for the sheets: videos", len(by_video)) as advance:
                for video, parts in by_video.items():
                    path = Path(video)
                    try:
                        path = video_path(self.config.annotation, video)
                        pictures |= _read_parts(path, parts, self.sample_fps, advance)
                    except (ValueError, OSError) as error:
                        text = str(error).replace(str(path), "the video")
                        problems.setdefault(text, []).extend([video] * len(parts))
                    advance(Outcome(video, "done"), 0)  # problems are counted below
        for problem, videos in problems.items():
            logger.warning(
                "%d samples are drawn without their video's pictures, such as one of %s: %s",
                len(videos),
                min(videos),
                problem,
            )
        return pictures


def _read_parts(
    path: Path, parts: Mapping[str, Moments], sample_fps: float | None, advance: Progress
) -> dict[str, list[ImageArray]]:
    """Return the pictures of some parts of one video, by name.

    Raises:
        VideoError: nothing can be read.
        ValueError: another number of frames than stage 1 read.

    """
    from recognizer.video.reader import VideoReader

    counts = dict.fromkeys(parts, 0)
    kept: dict[str, list[ImageArray]] = {name: [] for name in parts}
    last_s = max(part.stop_s for part in parts.values())
    threads = min(cpu_cores(), _MAX_THREADS)
    with VideoReader(path, sample_fps=sample_fps, threads=threads) as reader:
        for frame in takewhile(lambda frame: frame.time_s < last_s - _ROUNDING_S, reader):
            advance(None, 1)
            for name, part in parts.items():
                if part.start_s - _ROUNDING_S <= frame.time_s < part.stop_s - _ROUNDING_S:
                    if counts[name] in part.picks:
                        kept[name].append(part.crop(_pixels(frame, part.size_wh)))
                    counts[name] += 1
    for name, part in parts.items():
        if counts[name] != part.frames:
            raise ValueError(
                f"expected {part.frames} frames between {part.start_s:.2f} and {part.stop_s:.2f} s "
                f"as in stage 1, got {counts[name]}: not the same video"
            )
    return kept


def _pixels(frame: Frame, size_wh: tuple[int, int]) -> ImageArray:
    return frame.image.bgr(None if frame.image.size_wh == size_wh else size_wh)


def stills_of(config: Config, sample_fps: float | None) -> Stills | None:
    """Return the source of a sheet's pictures; None with ``visualize.skeleton_only``."""
    return Stills(config, sample_fps) if shows_video(config) else None


def shows_video(config: Config) -> bool:
    """Tell whether sheets may show the video's pictures, and with them faces."""
    return not config.visualize.skeleton_only


def sample_fps_of(settings: Settings) -> float | None:
    """Return the frame rate to which stage 1 thinned the videos, None if it did not.

    Args:
        settings: of a manifest of stage 1 or 2.

    """
    rate = settings.get("stage1", settings).get("sample_fps")
    return None if rate is None else float(rate)
