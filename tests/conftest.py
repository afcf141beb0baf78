"""What makes tests quick: fixtures that leave out what is not a test's subject.

Modules ask for them by ``pytestmark``; each has tests elsewhere whose subject it is.
"""

import functools
import gc
import multiprocessing
from collections.abc import Iterator
from importlib.util import find_spec
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import pytest


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of every later garbage collection."""
    gc.collect()
    gc.freeze()


def _unformatted(text: str, **_: object) -> tuple[str, bool]:
    return text, False


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as context:
        yield context


@pytest.fixture(scope="module")
def quick_mmengine(patch: pytest.MonkeyPatch) -> None:
    """Spare each training what mmengine does anew: laying out its config, asking for compilers.

    A config's text stays Python with the same values, a line for each key.
    test_config_names.py of runner/ reads a config as mmengine lays it out.
    """
    if find_spec("mmengine") is None:
        return
    from mmengine.config import config
    from mmengine.runner import runner

    patch.setattr(config, "FormatCode", _unformatted)
    patch.setattr(runner, "collect_env", functools.cache(runner.collect_env))


@pytest.fixture(scope="module")
def quick_figures(patch: pytest.MonkeyPatch) -> None:
    """Draw small figures without a layout; test_report.py of training/ looks at real ones."""
    draw_small(patch)


def draw_small(patch: pytest.MonkeyPatch) -> None:
    """Let every figure be drawn small and without a layout."""
    from matplotlib.figure import Figure

    from recognizer.runs import figures
    from recognizer.storage.artifacts import atomic_path

    def save(figure: Figure, final: Path, root: Path) -> None:
        figure.set_layout_engine("none")
        with atomic_path(final, root) as scratch:
            figure.savefig(scratch, format="png", dpi=20, metadata={"Software": None})

    patch.setattr(figures, "_save", save)


@pytest.fixture(scope="module")
def few_trees(patch: pytest.MonkeyPatch) -> None:
    """Fit small forests to metadata and two of six settings to movement.

    test_movement_model.py of action/ fits all settings.
    """
    from recognizer.action import movement_model
    from recognizer.training.classifier import baseline

    kept = ("logistic regression, C 0.03", "gradient boosting, rate 0.05")
    patch.setattr(baseline, "_TREES", 25)
    patch.setattr(
        movement_model, "SETTINGS", {name: movement_model.SETTINGS[name] for name in kept}
    )


@pytest.fixture(scope="module")
def forked_workers(patch: pytest.MonkeyPatch) -> None:
    """Fork worker processes from one that has their imports.

    They are spawned, as shipped, in test_workers.py and wherever test_stage1.py of runs/ starts
    main.py: test_killed_at_any_moment_the_end_is_the_same.
    """
    from recognizer.runs import worker_pool

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.worker_server"])
    forkserver.ensure_running()
    patch.setattr(worker_pool, "mp", SimpleNamespace(get_context=lambda _: context))
