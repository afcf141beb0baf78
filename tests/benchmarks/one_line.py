"""Run a benchmark's ``main`` that is to refuse its arguments."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from recognizer.runs.manifest import Manifest, Outcome, write_manifest


def refusal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[], object],
    arguments: Iterable[object],
) -> str:
    """Return the one line on stderr with which ``main`` ends, exit code 2."""
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    output = capsys.readouterr()
    assert (end.value.code, output.out) == (2, "")
    (line,) = output.err.splitlines()
    return line


def bad_folders(root: Path) -> dict[Path, str]:
    """Return folders without readable tracks, each with the pattern of its error."""
    folders = {
        "absent": "expected the results of a finished stage in",
        "refused": r"expected tracked videos in .*refused, found none \(1 refused\)",
        "damaged": r"damaged/a\.mp4\.npz",
    }
    write_manifest(
        root / "refused", Manifest("stage2", {}, (Outcome("a.mp4", "refused", "no video"),))
    )
    write_manifest(root / "damaged", Manifest("stage2", {}, (Outcome("a.mp4", "done", "", 9),)))
    (root / "damaged" / "a.mp4.npz").write_bytes(b"PK nothing of the kind")
    return {root / name: pattern for name, pattern in folders.items()}
