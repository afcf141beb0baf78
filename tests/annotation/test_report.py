import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from annotation.clips import ClassStatistics, Clip
from annotation.contact_sheet import ContactSheets, choose
from annotation.report import _balance, summarise
from annotation.stage3 import run_stage3
from recognizer.dataset.samples import build_sample
from recognizer.dataset.split import SPLITS
from recognizer.runs.figures import plain, save_figure
from recognizer.runs.strips import CELL_WH, MOMENTS, SLOT_COLORS, draw_plan, plan_strip
from tests.annotation.datasets import clips, config, digests, read_metadata
from tests.conftest import draw_small
from tests.dataset.tracked import sequence

ROOT = Path(__file__).resolve().parents[2]


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def test_every_picture_is_there_and_shows_something(tmp_path):
    folder = run_stage3(config(tmp_path, clips(4)))
    pictures = {p.name: p for p in (folder / "report").glob("*.png")}
    assert sorted(pictures) == [
        "class_balance.png",
        "clip_lengths.png",
        "keypoint_confidence.png",
        "people_per_frame.png",
        "skeletons_Fight.png",
        "skeletons_NonFight.png",
    ]
    for name, path in pictures.items():
        width, height = png_size(path)
        assert width >= 800, name
        assert height >= 400, name
        assert cv2.imread(str(path)).std() > 10, f"{name} is one colour"
        assert b"matplotlib" not in path.read_bytes(), "its version would change the bytes"


def test_equal_input_gives_equal_pictures(tmp_path):
    first = run_stage3(config(tmp_path / "a", clips(3)))
    second = run_stage3(config(tmp_path / "b", clips(3)))
    assert digests(first) == digests(second)
    assert "report/skeletons_Fight.png" in digests(first)


def test_names_that_look_like_formulas_are_shown(tmp_path):
    videos = {
        f"{folder}/$x^{{{i} _$.mp4": sequence(1.0)
        for folder in ("A $1$ frac{", "B%_é")
        for i in range(3)
    }
    folder = run_stage3(config(tmp_path, videos, classes={"A $1$ frac{": 0, "B%_é": 1}))
    assert (folder / "report" / "skeletons_B%_é.png").is_file()


def titled(path, name):
    save_figure(path, path.parent, lambda figure: figure.text(0.1, 0.5, plain(name), fontsize=40))
    return cv2.imread(str(path))


def test_two_hangul_names_are_two_pictures_and_no_boxes(tmp_path, recwarn):
    """Letters that no font has would be boxes, the same for each, with a warning."""
    pictures = [titled(tmp_path / f"{i}.png", c) for i, c in enumerate("싸움정상가나다라")]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert not [w for w in recwarn if "missing from font" in str(w.message)]


def test_a_letter_that_no_packaged_font_has_is_shown_as_it_can_be(tmp_path, recwarn):
    one, other = (titled(tmp_path / f"{i}.png", f"a{c}$x$") for i, c in enumerate("\ue000\ue001"))
    assert (one != other).any()
    assert not [w for w in recwarn if "missing from font" in str(w.message)]


def test_many_classes_and_slots(tmp_path, monkeypatch):
    draw_small(monkeypatch)
    names = [f"class {i}" for i in range(9)]
    videos = {f"{n}/{i}.mp4": sequence(1.0, people=7) for n in names for i in range(3)}
    classes = {name: i for i, name in enumerate(names)}
    folder = run_stage3(config(tmp_path, videos, classes=classes, num_person=7))
    assert len(list((folder / "report").glob("skeletons_*.png"))) == 9


def test_sheets_of_a_class_that_is_no_more_are_removed(tmp_path, monkeypatch):
    draw_small(monkeypatch)
    folder = run_stage3(config(tmp_path, clips(3)))
    (folder / "report" / "skeletons_Old.png").touch()
    (folder / "metadata.json").unlink()
    run_stage3(config(tmp_path))
    assert not (folder / "report" / "skeletons_Old.png").exists()


def clip(name, class_name="Fight"):
    return Clip(name, name, 0.0, 1.0, class_name, (0,), 10)


def strip_of(sample, duration_s):
    return draw_plan(plan_strip(sample, duration_s))


@pytest.mark.parametrize("count", [0, 1, 8, 9, 100])
def test_chosen_samples_are_spread_over_the_class(count):
    chosen = choose([clip(f"{i:03d}") for i in reversed(range(count))])
    assert len(chosen) == min(count, 8)
    names = [c.name for c in chosen]
    assert names == sorted(set(names))
    if count == 100:
        assert np.diff([int(n) for n in names]).tolist() == pytest.approx([12.5] * 7, abs=0.6)


@pytest.mark.parametrize(("early", "late"), [(0, 20), (3, 20), (8, 20), (20, 20), (5, 2)])
def test_samples_whose_pictures_can_be_read_soon_come_first(early, late):
    soon = [clip(f"a{i:02d}") for i in range(early)]
    far = [replace(clip(f"b{i:02d}"), start_s=400.0, stop_s=401.0) for i in range(late)]
    names = [c.name for c in choose([*far, *soon])]
    assert names == sorted(set(names))
    assert len(names) == min(8, early + late)
    assert sum(name.startswith("a") for name in names) == min(8, early)


def test_strip_shows_people_in_the_colours_of_their_slots():
    video = sequence(2.0, people=2, present=lambda i, t: i == 0 or t >= 1)
    strip = strip_of(build_sample(video, [1, 0], 2, "a", 0), 2.0)
    assert strip.seconds == pytest.approx((0.1, 0.5, 0.8, 1.1, 1.5, 1.8))
    assert strip.visible == 1.0
    assert strip.image.shape == (CELL_WH[1], MOMENTS * CELL_WH[0] + 4 * (MOMENTS - 1), 3)
    for moment in range(MOMENTS):
        left = moment * (CELL_WH[0] + 4)
        cell = strip.image[:, left : left + CELL_WH[0]]
        drawn = [(cell == color).all(axis=2).sum() > 50 for color in SLOT_COLORS]
        assert drawn == [moment >= 3, True, False, False]


def test_strip_shows_the_moments_in_which_somebody_is():
    video = sequence(10.0, people=1, present=lambda i, t: 3.0 <= t < 3.6)
    strip = strip_of(build_sample(video, [0], 1, "a", 0), 10.0)
    assert strip.seconds == pytest.approx((3.0, 3.1, 3.2, 3.3, 3.4, 3.5))
    assert strip.visible == pytest.approx(0.06)


@pytest.mark.parametrize("frames", [1, 4, 5, 7])
def test_strip_of_few_frames(frames):
    video = sequence(frames / 10, people=1)
    strip = strip_of(build_sample(video, [0], 1, "a", 0), frames / 10)
    assert len(strip.seconds) == min(frames, MOMENTS)
    assert strip.image.shape[1] == MOMENTS * CELL_WH[0] + 4 * (MOMENTS - 1)


def test_strip_survives_absurd_coordinates():
    video = sequence(1.0, people=2)
    video.poses.keypoints[3] = 1e30
    video.poses.keypoints[5, :3] = -1e12
    assert strip_of(build_sample(video, [0, 1], 2, "a", 0), 1.0).image.any()


def test_sheets_pass_samples_on_unchanged():
    samples = [build_sample(sequence(1.0), [0], 1, f"{i}", 1) for i in range(3)]
    sheets = ContactSheets([clip("1"), clip("9", "NonFight")])
    assert list(sheets.collect(samples)) == samples
    assert [s.name for s in sheets.by_class()["Fight"]] == ["1"]
    assert sheets.by_class()["NonFight"] == []


def test_figures_count_people_who_are_seen():
    figures = ClassStatistics()
    figures.add(
        sequence(1.0, people=2, present=lambda i, t: t >= 0.5, filled=lambda i, t: t >= 0.8)
    )
    assert figures.people[:3].tolist() == [7, 0, 3]
    assert figures.confidence.sum() == 3 * 2 * 17
    assert figures.missing == 0
    assert figures.confidence_sum == pytest.approx(3 * 2 * 17 * 0.8)
    assert figures.seconds == [pytest.approx(1.0)]


def test_more_than_twenty_people_share_the_last_bin():
    figures = ClassStatistics()
    figures.add(sequence(0.2, people=25))
    assert figures.people[-1] == 2


def test_summary_says_what_is_in_and_what_is_not(tmp_path):
    videos = clips(4) | {"Fight/nobody.mp4": sequence(people=0)}
    folder = run_stage3(config(tmp_path, videos))
    text = (folder / "report" / "summary.txt").read_text()
    assert text == summarise(read_metadata(folder))
    assert "8 samples for fight, from 9 videos: 8 done, 0 damaged, 1 refused" in text
    assert "- Fight/nobody.mp4: nobody was tracked" in text
    assert "train and val" in text
    assert "every video counts as its own source" in text


def test_plain_text():
    assert plain("a$b") == r"a\$b"
    assert plain("a\nb") == "a[U+000A]b"


def test_matplotlib_loads_late():
    code = "import annotation.stage3, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_samples_are_counted_in_whole_numbers(tmp_path, count):
    ticks = []

    def draw(figure):
        _balance(figure, {split: {"Fight": count, "NonFight": 1} for split in SPLITS}, 0)
        ticks[:] = figure.axes[0].get_yticks().tolist()

    save_figure(tmp_path / "balance.png", tmp_path, draw)
    assert len(ticks) >= 2
    assert all(float(tick).is_integer() for tick in ticks)


def test_control_characters_of_names_do_not_reach_the_page(tmp_path):
    folder = run_stage3(config(tmp_path, clips(4)))
    metadata = json.loads((folder / "metadata.json").read_bytes())
    metadata["failures"] = {"a\x1b[31m\nb.mp4": "no\x07 frames"}
    page = summarise(metadata)
    assert "- a\\x1b[31m\\nb.mp4: no\\x07 frames\n" in page
    assert not set(page) & {"\x1b", "\x07"}
