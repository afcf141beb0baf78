"""Look before a long training: ``python tools/quick_check.py CONFIG --iterations 10``."""

import sys

from entry import parser, run


def main(argv: list[str] | None = None) -> int:
    """Hand the command line on to main.py's train.check."""
    made = parser("tools/quick_check.py", "some iterations of a pose training, judged")
    made.add_argument("--iterations", type=int, default=10, metavar="N")
    arguments = made.parse_args(argv)

    def mode(kind: str) -> str:
        if kind != "pose":
            raise ValueError(
                f"{arguments.config}: expected a pose network, got a classifier; train.{kind} "
                "checks its pickles before it begins"
            )
        return "train.check"

    return run(arguments, mode, ["--iterations", str(arguments.iterations)])


if __name__ == "__main__":
    sys.exit(main())
