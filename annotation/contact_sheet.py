"""A contact sheet of skeletons per class: what the network shall learn.

Skeletons are drawn on the video's pictures where the video is available, else on grey.
"""

from collections.abc import Iterable, Iterator, Sequence

from annotation.clips import Clip
from recognizer.runs.progress import ProgressFactory, silent
from recognizer.runs.stills import LATEST_S, Stills
from recognizer.runs.strips import Strip, StripPlan, draw_plan, plan_strip
from recognizer.sequences import evenly_spaced
from recognizer.types import Sample

SAMPLES_PER_CLASS = 8


def choose(clips: Sequence[Clip], count: int = SAMPLES_PER_CLASS) -> list[Clip]:
    """Return ``count`` clips spread evenly over all of a class, in order of name.

    Clips late in their video, which are drawn without its pictures, are chosen only if the others
    are too few; ``visualize.skeleton_only`` does not change the choice.
    """
    early = _spread([clip for clip in clips if clip.stop_s <= LATEST_S], count)
    late = _spread([clip for clip in clips if clip.stop_s > LATEST_S], count - len(early))
    return sorted([*early, *late], key=lambda clip: clip.name)


def _spread(clips: Sequence[Clip], count: int) -> list[Clip]:
    return evenly_spaced(sorted(clips, key=lambda clip: clip.name), count)


class ContactSheets:
    """Collects some samples of each class out of a stream."""

    def __init__(self, clips: Sequence[Clip], stills: Stills | None = None) -> None:
        self._stills = stills
        self._chosen: dict[str, Clip] = {}
        self._plans: dict[str, dict[str, StripPlan]] = {}
        for name in sorted({clip.class_name for clip in clips}):
            self._plans[name] = {}
            of_class = [clip for clip in clips if clip.class_name == name]
            self._chosen |= {clip.name: clip for clip in choose(of_class)}

    def collect(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Yield the samples unchanged and keep the chosen ones."""
        for sample in samples:
            clip = self._chosen.get(sample.name)
            if clip is not None:
                plan = plan_strip(sample, clip.stop_s - clip.start_s)
                self._plans[clip.class_name][sample.name] = plan
            yield sample

    def by_class(self, progress: ProgressFactory = silent) -> dict[str, list[Strip]]:
        """Return the strips of each class, in order of name; ``progress`` shows the videos read."""
        plans = {name: plan for part in self._plans.values() for name, plan in part.items()}
        spans = {name: self._chosen[name] for name in plans}
        moments = {
            name: plans[name].moments(clip.video, clip.start_s, clip.stop_s)
            for name, clip in spans.items()
        }
        grounds = {} if self._stills is None else self._stills.read(moments, progress)
        return {
            name: [draw_plan(part[key], grounds.get(key)) for key in sorted(part)]
            for name, part in self._plans.items()
        }
