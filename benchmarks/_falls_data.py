"""Lay out the footage that falls are measured on: a folder of videos and tables about it.

``<out>/videos/`` gets the fall clips as they are, every view of the collages as a video of its
own, and normal footage: people who walk, exercise, stand in front of security cameras.
``segments.csv`` (video, start_s, stop_s, class) labels what to learn from, ``events.csv`` the falls
to find, and ``sources.csv`` (video, source) names each video's group: a person who falls, with a
share of the normal footage. Two kinds are there to be learnt from or not (``FIGHTS``, ``BED``):
fights, in the group of the recording that they are cut from, and synthetic falls out of beds, a
group of their own. When the falls of these clips happen is not labelled:
``_falls_windows.py`` takes the window of the fastest descent.
"""

import csv
import math
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av

from recognizer.storage.artifacts import atomic_path
from recognizer.video.reader import VideoReader
from recognizer.video.writer import VideoWriter

# Where the views stand inside a collage, x1 y1 x2 y2; the rest is black, or the time of day.
VIEWS = {"view1": (0, 0, 852, 640), "view2": (854, 0, 1280, 320)}
# When people fall in the collages, and until when they lie, seconds: seen frame by frame.
FALLS = {
    "fall/05_vertical_fall_faint.mp4": (2.3, 15.1),
    "fall/07_fall_to_knees_forward.mp4": (1.2, 9.05),
}
# One woman, or several in the same shirt on the same day, makes the daily activities and one fall.
PEOPLE = {"fall/05_vertical_fall_faint.mp4": "Faint"}
OTHERS = "Knees"
# What is learnt as a fall is the falling, from just before its start until the person is down: a
# detector loses people who lie, and lying alone is no fall. Seconds before and after the start.
FALLING_S = (0.3, 1.3)
# What ends less than this before a fall is neither: seconds without a class.
UNSURE_S = 0.8
NORMAL, FALL = "Normal", "Falldown"
FIGHTS, BED = "Fight/", "bed_falls/"  # how their videos' names begin
BED_GROUP = "Bed"
_FEW = 6

Row = tuple[str, float, float, str]  # video, start_s, stop_s, class
Clips = dict[str, tuple[Path, str]]  # video -> file, recording that it was cut from


@dataclass(frozen=True)
class Fall:
    """A fall as one video shows it.

    ``source`` is the file below the assets, ``view`` the part of it that is shown, x1 y1 x2 y2
    (None: all); the fall starts at ``start_s``, and until ``stop_s`` the person lies.
    """

    source: str
    view: tuple[int, int, int, int] | None
    start_s: float
    stop_s: float


def falls_of(segments: Path) -> dict[str, Fall]:
    """Return the falls of the fall clips and of the collages' views, by the video's name."""
    falls = {}
    with segments.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["class"] == FALL:
                name = f"falls/{row['video']}"
                falls[name] = Fall(name, None, float(row["start_s"]), math.inf)
    for clip, span in FALLS.items():
        for view, box in VIEWS.items():
            falls[_view_name(clip, view)] = Fall(f"multiview_falls/{clip}", box, *span)
    return falls


def write_falls(assets: Path, falls: Mapping[str, Fall], videos: Path) -> None:
    """Write the video of each fall into the folder ``videos``."""
    for name, fall in falls.items():
        if fall.view is None:
            _copy(assets / fall.source, videos / name)
        else:
            _crop(assets / fall.source, videos / name, fall.view, videos)


def lay_out(assets: Path, segments: Path, out: Path, *, few: bool = False) -> None:
    """Write the folder of videos and the three tables; videos that are there are kept.

    With ``few`` the collages and most of the normal footage are left out.
    """
    rows: list[Row] = []
    groups: dict[str, str] = {}
    with segments.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = f"falls/{row['video']}"
            rows.append((name, float(row["start_s"]), float(row["stop_s"]), row["class"]))
            groups[name] = row["video"].split("/")[0]
    for name in groups:
        _copy(assets / name, out / "videos" / name)
    for path in [] if few else sorted((assets / "multiview_falls").glob("*/*.mp4")):
        clip = path.relative_to(assets / "multiview_falls").as_posix()
        for view, box in VIEWS.items():
            name = _view_name(clip, view)
            _crop(path, out / "videos" / name, box, out)
            rows += _labels(name, FALLS.get(clip), _duration(path))
            groups[name] = PEOPLE.get(clip, OTHERS)
    normal = dict(islice(_normal(assets).items(), _FEW if few else None))
    fights = {} if few else _of_recordings(assets, "Fight")
    people = sorted(set(groups.values()))
    groups |= (dealt := _deal(normal, people, {}))
    group_of = {normal[name][1]: group for name, group in dealt.items()}
    groups |= _deal(fights, people, group_of)
    for name, (path, _) in (normal | fights).items():
        _copy(path, out / "videos" / name)
        rows.append((name, 0.0, _duration(path), NORMAL))
    for path in [] if few else sorted((assets / "bed_falls").glob("*/*.mp4")):
        name = path.relative_to(assets).as_posix()
        _copy(path, out / "videos" / name)
        groups[name] = BED_GROUP
        if path.parent.name == "non_fall":
            rows.append((name, 0.0, _duration(path), NORMAL))
    _write(out / "segments.csv", ("video", "start_s", "stop_s", "class"), _to_learn(rows))
    falls = [row for row in rows if row[3] == FALL]
    _write(out / "events.csv", ("video", "start_s", "stop_s", "class"), falls)
    _write(out / "sources.csv", ("video", "source"), sorted(groups.items()))


def _view_name(clip: str, view: str) -> str:
    return f"multiview/{clip.removesuffix('.mp4')}_{view}.mp4"


def _labels(name: str, fall: tuple[float, float] | None, duration: float) -> list[Row]:
    if fall is None:
        return [(name, 0.0, duration, NORMAL)]
    return [(name, 0.0, fall[0], NORMAL), (name, *fall, FALL)]


def _to_learn(rows: list[Row]) -> list[Row]:
    """Return the rows to learn from: the falling alone, and normal footage well before it."""
    starts = {(name, start) for name, start, _, kind in rows if kind == FALL}
    kept: list[Row] = []
    for name, start, stop, kind in rows:
        if kind == FALL:
            kept.append((name, max(start - FALLING_S[0], 0.0), start + FALLING_S[1], kind))
            continue
        first = min((s for n, s in starts if n == name), default=stop + UNSURE_S)
        if (stop := min(stop, first - UNSURE_S)) > start:
            kept.append((name, start, stop, kind))
    return [(name, round(a, 3), round(b, 3), kind) for name, a, b, kind in kept]


def _normal(assets: Path) -> Clips:
    """Return the footage without falls."""
    clips = _of_recordings(assets, "NonFight")
    for path in sorted((assets / "videos").iterdir()):
        clips[f"street/{path.name}"] = (path, path.name)
    return clips


def _of_recordings(assets: Path, kind: str) -> Clips:
    """Return the clips of one class."""
    with (assets / "fight_surv" / "sources.csv").open(encoding="utf-8", newline="") as file:
        recordings = {row["video"]: row["source"] for row in csv.DictReader(file)}
    clips = sorted((assets / "fight_surv" / kind).iterdir())
    return {f"{kind}/{path.name}": (path, recordings[f"{kind}/{path.name}"]) for path in clips}


def _deal(clips: Clips, groups: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Return each video's group: whole recordings, the longest first, go to the shortest group.

    A recording that is in ``known`` stays in its group.
    """
    seconds: dict[str, float] = defaultdict(float)
    videos = defaultdict(list)
    for name, (path, recording) in clips.items():
        seconds[recording] += _duration(path)
        videos[recording].append(name)
    dealt: dict[str, str] = {}
    filled = dict.fromkeys(groups, 0.0)
    for recording in sorted(seconds, key=lambda r: (r not in known, -seconds[r], r)):
        group = known.get(recording) or min(filled, key=lambda g: (filled[g], g))
        filled[group] += seconds[recording]
        dealt |= dict.fromkeys(videos[recording], group)
    return dealt


def _duration(path: Path) -> float:
    with av.open(str(path), metadata_errors="replace") as container:
        stream = container.streams.video[0]
        if stream.duration is not None and stream.time_base is not None:
            return round(float(stream.duration * stream.time_base), 3)
        if container.duration is None:
            raise ValueError(f"{path}: expected a video that states its duration, got none")
        return round(container.duration / av.time_base, 3)


def _copy(path: Path, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    if not final.exists():
        shutil.copy2(path, final)


def _crop(path: Path, final: Path, box: tuple[int, int, int, int], root: Path) -> None:
    if final.exists():
        return
    x1, y1, x2, y2 = box
    with VideoReader(path) as reader, atomic_path(final, root) as scratch:
        fps = reader.info.fps
        if fps is None:
            raise ValueError(f"{path}: expected a collage of a known frame rate, got none")
        with VideoWriter(scratch, (x2 - x1, y2 - y1), fps, crf=12) as writer:
            for frame in reader:
                picture = frame.image.bgr()
                if picture.shape != (720, 1280, 3):
                    raise ValueError(f"{path}: expected a collage of 1280x720, got {picture.shape}")
                writer.write(picture[y1:y2, x1:x2], frame.time_s)


def _write(path: Path, columns: Sequence[str], rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
