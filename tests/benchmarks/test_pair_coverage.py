import numpy as np
import pytest

from benchmarks.pair_coverage import LABELS, Counts, match, measure_pairs, read_labels
from recognizer.types import Poses, PoseSequenceBuilder

A, B = (0, 0, 10, 20), (30, 0, 40, 20)
BOTH = (0, 0, 40, 20)


def people(*boxes, scores=None):
    count = len(boxes)
    return Poses(
        np.zeros((count, 17, 2), np.float32),
        np.zeros((count, 17), np.float32),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.ones(count, np.float32) if scores is None else np.array(scores, np.float32),
        np.arange(1, count + 1),
    )


def test_labels_are_two_boxes_of_30_clips():
    labels = read_labels(LABELS)
    assert len(labels) == 30
    boxes = np.concatenate([two for frames in labels.values() for two in frames.values()])
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert min(map(len, labels.values())) >= 4


@pytest.mark.parametrize(
    ("boxes", "rows"),
    [
        ([A, B], [0, 1]),
        ([B, A], [1, 0]),
        ([BOTH], [-1, -1]),  # covers a quarter of either
        ([A], [0, -1]),
        ([], [-1, -1]),
    ],
)
def test_one_row_for_one_fighter(boxes, rows):
    found = match(np.array([A, B], np.float32), people(*boxes), np.full(2, -1))
    assert found.tolist() == rows


def test_the_id_before_is_kept_where_it_fits():
    fighters = np.array([A, (100, 0, 110, 20)], np.float32)
    double = people(A, (0, 0, 10, 14))
    assert match(fighters, double, np.array([-1, -1]))[0] == 0
    assert match(fighters, double, np.array([2, -1]))[0] == 1


def test_counts_pairs_and_changes():
    builder = PoseSequenceBuilder()
    builder.append(people(A, B), 0.0)
    builder.append(people(B, A, scores=[1, 0]), 1.0)  # ids swapped, one not seen
    builder.append(people(A), 2.0)
    labels = dict.fromkeys((0.0, 1.0, 2.0), np.array([A, B], np.float32))
    figures = Counts()
    measure_pairs(builder.build((100, 100)), labels, "v", figures)
    assert figures.pairs["v"] == [(True, True), (True, False), (False, False)]
    assert (figures.changes, figures.kept_ids) == (3, 0)
