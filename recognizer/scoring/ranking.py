"""Ranking of the people in a clip or window by involvement, in training and inference."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from recognizer.config.schema import FalldownConfig, FightConfig, ScoringConfig
from recognizer.scoring import falldown, fight
from recognizer.scoring.measures import collect_observations
from recognizer.types import FloatArray, IntArray, PoseSequence

Service = Literal["fight", "falldown"]
SERVICES: tuple[Service, ...] = get_args(Service)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Involvement:
    """The people of a sequence, most involved first.

    Attributes:
        track_ids: (K,) int64, by involvement falling, then by id rising.
        involvement: (K,) float32 in [0, 1].
        measures: (K, n) float32 in [0, 1], whose weighted mean is the involvement.
        measure_names: n names, in the order of the columns.

    """

    track_ids: IntArray
    involvement: FloatArray
    measures: FloatArray
    measure_names: tuple[str, ...]

    def by_id(self) -> dict[int, float]:
        """Return the involvement of every id."""
        return dict(zip(self.track_ids.tolist(), self.involvement.tolist(), strict=True))

    def __repr__(self) -> str:
        """Return a short text: the first people and their involvement."""
        pairs = zip(self.track_ids[:4].tolist(), self.involvement[:4].tolist(), strict=True)
        first = ", ".join(f"{track}: {value:.2f}" for track, value in pairs)
        return f"Involvement({len(self.track_ids)} people; {first})"


def rank_people(sequence: PoseSequence, service: Service, scoring: ScoringConfig) -> Involvement:
    """Rank the tracked people of a clip or window by how much they are part of an event.

    The involvement is the mean of a service's measures, weighted as the config says.
    The result depends neither on ids nor on the time of day, the picture's size or the
    frame rate.

    Args:
        sequence: tracked people; rows with id -1 are ignored.
        service: ``fight`` or ``falldown``.
        scoring: the weights of the measures.

    Raises:
        ValueError: another service.

    """
    ids, rows = collect_observations(sequence)
    names: tuple[str, ...]
    section: FightConfig | FalldownConfig
    match service:
        case "fight":
            names, measures, section = fight.NAMES, fight.measure(rows), scoring.fight
        case "falldown":
            names, measures = falldown.NAMES, falldown.measure(rows)
            section = scoring.falldown
        case _:
            raise ValueError(f"service: expected 'fight' or 'falldown', got {service!r}")
    measures = np.clip(measures, 0, 1).astype(np.float32)
    weights = np.array([getattr(section, name) for name in names])
    total = (measures @ (weights / weights.sum())).astype(np.float32)
    order = np.lexsort((ids, -total))
    return Involvement(ids[order], np.clip(total[order], 0, 1), measures[order], names)
