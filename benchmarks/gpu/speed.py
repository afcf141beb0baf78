"""Speed: RTMO and SDPose from frames to people, training steps, shares of the card's roofline.

    python -m benchmarks.gpu.speed --seconds 120 --out output/gpu --device cuda:0

Results are kept after each measurement; what is most worth knowing is measured first.
"""

import sys

from benchmarks.gpu import _card, _summary, speed_pose, speed_training
from benchmarks.gpu._part import Options, Results, parse
from benchmarks.gpu._speed import Book, Clock

PART = "speed"
END_S = 3.0
"""Left at the end for the tables."""


def main(argv: list[str] | None = None) -> int:
    options = parse(__doc__, argv)
    results = Results.open(options, PART)
    book = Book(options, results, END_S)
    if "card" not in results:
        known = _summary.read(options.out / _summary.CARD)
        results.put("card", known if "copy_tbps" in known else _card.measure(options.device))
    short, steps = clocks(options)
    for name in ("rtmo-s", "rtmo-l")[: 1 if options.tiny else 2]:
        speed_pose.rtmo(book, short, name)
    for name in ("sdpose-t", "sdpose-s_v1")[: 1 if options.tiny else 2]:
        speed_pose.sdpose(book, short, name)
    speed_training.run(book, steps, speed_training.POSE_WAYS, speed_training.PoseSteps)
    speed_training.run(book, steps, speed_training.ACTION_WAYS, speed_training.ActionSteps)
    path = options.out / f"{PART}.md"
    path.write_text(speed_pose.render(results.values) + speed_training.render(results.values))
    return 0


def clocks(options: Options) -> tuple[Clock, Clock]:
    """Return how long a call and how long a training step is timed."""
    if options.tiny:
        once = Clock(options.device, 0.0, 1, least=1, warm_ups=0)
        return once, once
    return Clock(options.device, 0.6, 200), Clock(options.device, 0.8, 20)


if __name__ == "__main__":
    sys.exit(main())
