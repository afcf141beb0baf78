"""Measure a checkpoint: ``python tools/test.py CONFIG CHECKPOINT``, as OpenMMLab's tool.

    python tools/test.py CONFIG CHECKPOINT --eval mAP
    tools/dist_test.sh CONFIG CHECKPOINT N

Measuring runs in one process; of several that were started, the others end at once.
"""

import os
import sys

from entry import parser, run, setting

# What --eval may name; everything is measured whatever it names.
_MEASURES = {
    "pose": ("mAP", "AP", "AR"),
    "classifier": ("top_k_accuracy", "mean_class_accuracy", "acc"),
}


def main(argv: list[str] | None = None) -> int:
    """Hand the command line on to main.py's test.pose, test.fight or test.falldown."""
    made = parser("tools/test.py", "measure a trained pose network or classifier")
    made.add_argument("checkpoint", help="a .pth of the training")
    made.add_argument("--eval", nargs="+", default=[], metavar="MEASURE", help="such as mAP")
    made.add_argument("--work-dir", metavar="DIR", help="where the report goes")
    arguments = made.parse_args(argv)

    def mode(kind: str) -> str:
        known = _MEASURES["pose" if kind == "pose" else "classifier"]
        other = [name for name in arguments.eval if name not in known]
        if other:
            raise ValueError(f"--eval {' '.join(other)}: expected {', '.join(known)}")
        return f"test.{kind}"

    if os.environ.get("RANK", "0") != "0":
        return 0
    extra = ["--checkpoint", arguments.checkpoint, *setting("test.output_dir", arguments.work_dir)]
    if int(os.environ.pop("WORLD_SIZE", "1")) > 1:
        sys.stderr.write("measuring runs in one process; the others end here\n")
    return run(arguments, mode, extra)


if __name__ == "__main__":
    sys.exit(main())
