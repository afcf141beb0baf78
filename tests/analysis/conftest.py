"""A place with videos and networks, and one that is analysed."""

import shutil
from pathlib import Path

import pytest

from tests.analysis.small_runs import make_place, run


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return make_place(tmp_path)


@pytest.fixture(scope="session")
def analysed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_place(tmp_path_factory.mktemp("place"))
    assert run(config) == 0
    return config


@pytest.fixture
def analysed(analysed_once: Path, tmp_path: Path) -> Path:
    """Return a copy of a finished analysis."""
    shutil.copytree(analysed_once.parent, tmp_path / "copy")  # with its times
    return tmp_path / "copy" / analysed_once.name
