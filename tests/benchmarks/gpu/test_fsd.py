"""The whole part on a few real people, on the CPU."""

import json
import math

import pytest

from benchmarks.gpu import fsd, fsd_data

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (fsd_data.ASSETS / "lspet").is_dir(), reason="needs ../shared/assets/lspet"
    ),
]


def test_packs_and_measures_a_few_people(tmp_path):
    notes = fsd_data.pack(tmp_path / "data" / "fsd", limit=6, epochs=1)
    assert notes["teacher_pck_train"] > 0.4
    out = tmp_path / "out"
    given = [
        "--tiny",
        "--device",
        "cpu",
        "--seconds",
        "900",
        "--out",
        str(out),
        "--data",
        str(tmp_path / "data"),
    ]
    assert fsd.main(given) == 0
    results = json.loads((out / "fsd.json").read_text())
    assert "faults" not in results
    for start in ("published", "spread"):
        record = results[f"{start}, seed 0"]
        assert record["outcome"] == "finished" or "plateau" in record["outcome"]
        assert len(record["names"]) == 5
        for values in record["windows"][-1]["runs"].values():
            assert all(math.isfinite(value) for value in values.values())
    report = (out / "fsd.md").read_text()
    assert "| fsd_best, gradient to teacher |" in report
    assert "0 of 0 with detached teachers, 0 of 5 with gradient" in report
    assert (out / "fsd_curves.png").stat().st_size > 10_000


def test_says_what_is_missing(tmp_path, capsys):
    given = ["--device", "cpu", "--out", str(tmp_path), "--data", str(tmp_path)]
    assert fsd.main(given) == 1
    assert "run the pack first" in capsys.readouterr().err
