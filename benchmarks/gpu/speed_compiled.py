"""Training steps through torch.compile, in a process of its own that can be ended.

    python -m benchmarks.gpu.speed_compiled --seconds 60 --out output/gpu --device cuda:0

``benchmarks.gpu.speed`` starts it last and takes over what it has measured.
"""

import sys
import warnings

from benchmarks.gpu import speed_training
from benchmarks.gpu._part import Results, parse
from benchmarks.gpu._speed import Clock, MeasurementLog

PART = "speed_compiled"
BATCHES = (256,)


def main(argv: list[str] | None = None) -> int:
    options = parse(__doc__, argv)
    warnings.simplefilter("ignore")
    log = MeasurementLog(options, Results.open(options, PART))
    clock = Clock(options.device, 0.8, 20)
    if options.tiny:
        clock = Clock(options.device, 0.0, 1, least=1, warm_ups=0)
    for way in speed_training.compiled_ways(options.device):
        is_action = way.network == "stgcnpp"
        steps = speed_training.ActionSteps if is_action else speed_training.PoseSteps
        speed_training.run(log, clock, (way,), steps, BATCHES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
