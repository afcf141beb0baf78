"""The console command ``recognizer``: what ``python main.py`` is in a checkout."""

import importlib
import sys

from recognizer.installation import FILES


def main() -> int:
    """Run main.py, and return its exit code.

    Its modes are packages beside it, which worker processes find by the same search path.
    """
    sys.path.insert(0, str(FILES))
    code: int = importlib.import_module("main").main()
    return code


if __name__ == "__main__":
    raise SystemExit(main())
