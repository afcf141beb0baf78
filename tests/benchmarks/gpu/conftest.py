"""A part of the kit is a process of its own; called within the tests', it must leave no trace."""

import logging
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _quiet_only_inside() -> Iterator[None]:
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        yield
    logging.disable(disabled)
