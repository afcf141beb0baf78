"""Fixtures of the tests of deploy/."""

import pytest

from deploy import download, model_zoo
from tests.deploy.fetching import ARCHIVE, FILE


@pytest.fixture
def own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let models.fetch know two small files of the tests' own, and wait for nobody for long."""
    monkeypatch.setattr(model_zoo, "FILES", {FILE.name: FILE, ARCHIVE.name: ARCHIVE})
    monkeypatch.setattr(download, "TIMEOUT_S", 5.0)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must not be asked for 127.0.0.1
