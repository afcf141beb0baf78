"""The learning curves are readable, over one epoch and over hundreds."""

import re

import cv2
import numpy as np
import pytest

pytest.importorskip("mmengine")
from matplotlib.figure import Figure

from recognizer.training.pose.learning_curves import _curves, draw_curves


def rows(epochs, decay=0.03):
    return [
        {
            "epoch": i + 1.0,
            "heatmap_loss": 0.0021 * np.exp(-decay * i),
            "vis_dist_loss": 0.012,
            "kpt_dist_loss": 0.3,
            "coco/AP": min(0.7, 0.01 * i),
        }
        for i in range(epochs)
    ]


def drawn(runs):
    figure = Figure(layout="constrained")
    _curves(figure, runs, {})
    figure.canvas.draw()
    return figure.axes


def shown(axis):
    low, high = sorted(axis.get_view_interval())
    return [
        label.get_text()
        for at, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
        if low <= at <= high
    ]


@pytest.mark.parametrize("epochs", [1, 3, 12, 210])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_axes_are_whole_epochs_and_plain_numbers(epochs, decay):
    for axes in drawn({"a": rows(epochs, decay)}):
        assert all(re.fullmatch(r"\d+", text) for text in shown(axes.xaxis))
        levels = [text for text in shown(axes.yaxis) if text]
        assert 2 <= len(levels) <= 14
        assert all(re.fullmatch(r"[\d.]+(e-\d+)?", text) for text in levels)
        assert len(set(levels)) == len(levels)
        assert max(map(len, levels)) <= 9


@pytest.mark.parametrize(("epochs", "marked"), [(2, True), (210, False)])
def test_points_show_where_there_are_few(epochs, marked):
    for axes in drawn({"a": rows(epochs)}):
        assert all((line.get_marker() not in {"", "None"}) == marked for line in axes.lines)


def test_names_in_hangul_make_another_picture(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, name in zip(paths, ("싸움", "정상"), strict=True):
        draw_curves(path, {name: rows(3)})
    one, other = (cv2.imread(str(path)) for path in paths)
    assert one.shape == other.shape
    below = (one != other).any(axis=2)
    assert below[380:].any()  # the legend
    assert not below[:380].any()


def test_a_curve_of_one_evaluation_is_seen(tmp_path):
    row = {"epoch": 1.0, "heatmap_loss": 0.1, "vis_dist_loss": 1e-7, "coco/AP": 0.05}
    draw_curves(tmp_path / "one.png", {"a": [row]})
    picture = cv2.imread(str(tmp_path / "one.png"))[70:345]  # above the legend
    blue = (np.abs(picture.astype(int) - (180, 119, 31)) < 40).all(2)
    for panel in np.array_split(blue, 3, axis=1):
        assert panel.any()
