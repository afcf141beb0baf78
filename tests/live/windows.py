"""Windows for the rules: probabilities every half second, people where they stand."""

from collections.abc import Sequence

from recognizer.action.results import Person, Window
from recognizer.live.events import Outcome
from recognizer.live.rules import CameraRules

SIZE, STRIDE_S, LENGTH_S, UTC_S = (100, 100), 0.5, 2.0, 1_800_000_000.0
CLASSES = ("Normal", "Fight")


def person(track_id: int = 1, x: float = 0.5, y: float = 0.5, involvement: float = 0.9) -> Person:
    """Return a person of 10 x 40 pixels whose foot point is at a place of the picture."""
    foot = 100 * y + 4
    box = (100 * x - 5, foot - 40, 100 * x + 5, foot)
    return Person(track_id, involvement, box, 0.0, 1.0)


def window(
    number: int,
    probability: float | None,
    people: Sequence[Person] = (),
    *,
    name: str = "Fight",
    streams: dict[str, float] | None = None,
) -> Window:
    """Return the window that starts ``number`` strides after 0; None: too few frames."""
    start_s, stop_s = number * STRIDE_S, number * STRIDE_S + LENGTH_S
    if probability is None:
        return Window(start_s, stop_s, 1, "too_few_frames", {})
    values = {name: probability, "Normal": 1 - probability}
    return Window(start_s, stop_s, 20, "judged", values, tuple(people), streams or {})


def fed(
    rules: CameraRules,
    probabilities: Sequence[float | None],
    people: Sequence[Person] = (),
    *,
    first: int = 0,
    name: str = "Fight",
    streams: dict[str, float] | None = None,
) -> list[Outcome]:
    """Return all outcomes of windows one stride apart."""
    outcomes = []
    for number, probability in enumerate(probabilities, first):
        one = window(number, probability, people, name=name, streams=streams)
        outcomes += rules.update(one, UTC_S + one.stop_s, SIZE)
    return outcomes
