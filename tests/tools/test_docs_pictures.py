"""The pictures of docs/ are those that the samples and the reports give."""

import json
import re

import cv2
import numpy as np
import pytest

from tools import docs_pictures
from tools.docs_pictures import CROSSVAL, DOCS, LIVE, PICTURES, analysed, scores_of, tracks, view

MAX_BYTES = 150_000
FALL = "falls_stage1/Subject_2/Fall/13.mp4"


@pytest.mark.parametrize("name", PICTURES)
def test_the_committed_picture_is_up_to_date(name, tmp_path):
    """Letters may be drawn a little differently by other versions of their library."""
    PICTURES[name](tmp_path / "new.png")
    new, committed = (cv2.imread(str(p)) for p in (tmp_path / "new.png", DOCS / f"{name}.png"))
    assert new.shape == committed.shape
    assert np.abs(new.astype(float) - committed).mean() < 1.5
    assert new.std() > 10


@pytest.mark.parametrize("name", [*PICTURES, *LIVE])
def test_a_picture_is_small_and_on_a_page(name):
    assert (DOCS / f"{name}.png").stat().st_size < MAX_BYTES
    pages = [page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")]
    assert any(re.search(rf"!\[[^\]]+\]\({name}\.png\)", page) for page in pages)


def test_a_view_keeps_the_people_in_proportion_and_inside():
    whole, part = tracks(FALL), view(FALL, (320, 240), height=400)
    assert part.size_wh == (320, 240)
    before, after = (np.ptp(one.poses.boxes[:, 0::2], axis=1) for one in (whole, part))
    assert after == pytest.approx(before * 240 / 400, abs=0.01)
    middle = np.median(part.poses.boxes.reshape(-1, 2), axis=0)
    assert ((middle > 0) & (middle < part.size_wh)).all()
    assert (view(FALL, whole.size_wh).poses.boxes == whole.poses.boxes).all()


def test_an_analysis_finds_the_fall():
    record = analysed(FALL, ("falldown",))
    (event,) = record.services["falldown"].events
    assert event.class_name == "Falldown"
    assert event.start_s <= 3.5 < event.stop_s


def test_scores_are_those_of_the_report():
    report = json.loads(CROSSVAL.read_text(encoding="utf-8"))["scores"]["all"]
    scores = scores_of(report)
    assert dict(zip(scores.classes, scores.counts, strict=True)) == report["by_label"]
    right = sum(row[k] for k, row in enumerate(scores.confusion))
    assert right / sum(scores.counts) == pytest.approx(scores.overall["accuracy"].value)


def test_without_chromium_the_pictures_of_the_page_stay(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    before = {name: (DOCS / f"{name}.png").read_bytes() for name in LIVE}
    assert docs_pictures.main(["live"]) == 0
    assert "chromium is not installed" in capsys.readouterr().err
    assert {name: (DOCS / f"{name}.png").read_bytes() for name in LIVE} == before


def test_an_unknown_picture_is_refused(capsys):
    with pytest.raises(SystemExit):
        docs_pictures.main(["no-such"])
    assert "expected names of overlay, timeline" in capsys.readouterr().err
