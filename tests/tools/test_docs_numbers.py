"""docs/numbers.md is what the reports in the repository make of it, and agrees with the prose."""

import copy
import json
import re
from pathlib import Path

import pytest

from tools import docs_numbers
from tools.docs_numbers import falls_table, fight_table, numbers, overfit_table, poses_table

ROOT = Path(__file__).resolve().parents[2]
FIGHT = json.loads((ROOT / "samples/models/fight_crossval.json").read_text("utf-8"))
FALLS = json.loads((ROOT / "samples/models/falls_events.json").read_text("utf-8"))


def test_the_committed_page_is_up_to_date():
    assert docs_numbers.main(["--check"]) == 0


def test_a_changed_page_is_out_of_date_until_it_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(docs_numbers, "PAGE", tmp_path / "numbers.md")
    assert docs_numbers.main(["--check"]) == 1
    assert "docs/numbers.md: out of date" in capsys.readouterr().err
    assert docs_numbers.main([]) == 0
    assert docs_numbers.main(["--check"]) == 0
    (tmp_path / "numbers.md").write_text(numbers().replace("0.820", "0.920"), "utf-8")
    assert docs_numbers.main(["--check"]) == 1


def test_a_changed_report_changes_its_table():
    changed = copy.deepcopy(FIGHT)
    changed["scores"]["pose"]["overall"]["accuracy"] = {"value": 0.5, "low": 0.25, "high": 0.75}
    before, after = fight_table(FIGHT).rows, fight_table(changed).rows
    assert [new for old, new in zip(before, after, strict=True) if old != new] == [
        ("poses alone", "0.500 [0.250, 0.750]", before[2][2])
    ]


def test_the_best_evaluation_is_that_of_the_highest_ap():
    lines = [
        {"epoch": str(n), "coco/AP": ap, "coco/AP .5": "0.5", "heatmap_loss": "0.001"}
        for n, ap in enumerate(("0.1", "0.9", "0.3"))
    ]
    assert [row[:3] for row in overfit_table(lines).rows] == [
        ("best", "1", "0.900"),
        ("last", "2", "0.300"),
    ]


def test_a_call_whose_frames_did_not_fit_its_recording_is_marked():
    one = {
        "network": "n",
        "mode": "fp16",
        "batch": 8,
        "per_s": 1.0,
        "p50_ms": 1.0,
        "network_ms": 1.0,
        "peak_mib": 1.0,
    }
    report = {
        "card": {"name": "a card"},
        "pose|a": {**one, "recorded": False},
        "pose|b": {**one, "recorded": None},
    }
    assert [row[1] for row in poses_table(report).rows] == ["fp16 \\*", "fp16"]


@pytest.mark.parametrize("page", ["README.md", "samples/models/README.md"])
def test_the_prose_has_the_figures_of_the_fight_report(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    _, accuracy, auc = fight_table(FIGHT).rows[0]
    assert f"accuracy {accuracy}" in text
    assert f"ROC-AUC {auc}" in text


def test_the_readme_has_the_figures_of_the_falls_report():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    fused = next(row for row in falls_table(FALLS).rows if row[0].startswith("fused"))
    found, alarms = (int(re.match(r"\d+", fused[at])[0]) for at in (2, 3))
    assert f"| {found} found (" in text
    assert f"{alarms} false alarm" in text
    in_beds = fused[6].replace(" in ", " false alarms in ")
    assert f"{fused[5]} found, {in_beds} of normal footage" in text
