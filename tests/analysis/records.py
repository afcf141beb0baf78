"""Records made by hand, for what only reads them."""

from collections.abc import Iterable
from typing import Any

from recognizer.action.events import merge_to_events
from recognizer.action.results import Person, Window, WindowState
from recognizer.analysis.record import Record, ServiceResult

CLASSES = {"fight": ["NonFight", "Fight"], "falldown": ["Normal", "Falldown"]}
RULES = {"threshold": 0.5, "merge_gap_s": 0.0, "min_event_s": 0.0}


def person(
    track_id: int,
    start_s: float,
    stop_s: float,
    involvement: float = 0.5,
    box: tuple[float, float, float, float] = (10.0, 12.0, 40.0, 60.0),
) -> Person:
    return Person(track_id, involvement, box, start_s, stop_s)


def window(
    start_s: float,
    probability: float,
    *,
    service: str = "fight",
    people: Iterable[int] = (),
    state: WindowState = "judged",
    length_s: float = 2.0,
) -> Window:
    normal, event = CLASSES[service]
    stop_s = start_s + length_s
    values = {normal: 1 - probability, event: probability} if state != "too_few_frames" else {}
    everybody = tuple(person(track_id, start_s, stop_s) for track_id in people)
    return Window(start_s, stop_s, 20, state, values, everybody)


def result(
    windows: Iterable[Window], *, service: str = "fight", rules: dict[str, float] = RULES
) -> ServiceResult:
    metadata = {
        "file": f"{service}.onnx",
        "sha256": "ab" * 32,
        "classes": CLASSES[service],
        "window_s": 2.0,
        "stride_s": 1.0,
        "num_person": 4,
        "min_frames": 4,
    }
    windows = tuple(windows)
    return ServiceResult(
        metadata, rules, windows, merge_to_events(windows, CLASSES[service], rules)
    )


def record(
    services: dict[str, ServiceResult],
    *,
    video: str = "Fight/a.mp4",
    stop_s: float = 10.0,
    size_wh: tuple[int, int] = (96, 64),
) -> Record:
    return Record(
        video=video,
        source={"sha256": "cd" * 32, "size_bytes": 1234},
        state="done",
        damage="",
        size_wh=size_wh,
        frames=200,
        span_s=(0.0, stop_s),
        made_from={"poses": "dot-12345678", "tracks": "bytetrack-12345678"},
        services=services,
    )


def sliding(probabilities: Iterable[float], **options: Any) -> list[Window]:
    """Return windows of 2 s, one each second."""
    return [window(float(t), value, **options) for t, value in enumerate(probabilities)]
