"""What makes every test quicker: a heap searched once, and no repeated work of mmengine's."""

import functools
import gc
import sys
from typing import Any


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of every later garbage collection."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup() -> None:
    """Spare each training what mmengine does anew: laying out its config, asking for compilers.

    A config's text stays valid Python with the same values, on one line per key.
    """
    config: Any = sys.modules.get("mmengine.config.config")
    runner: Any = sys.modules.get("mmengine.runner.runner")
    if config is not None and config.FormatCode is not _as_it_is:
        config.FormatCode = _as_it_is
    if runner is not None and not hasattr(runner.collect_env, "cache_info"):
        runner.collect_env = functools.cache(runner.collect_env)


def _as_it_is(text: str, **_: Any) -> tuple[str, bool]:
    return text, False
