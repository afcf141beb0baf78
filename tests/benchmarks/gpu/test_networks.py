"""The networks that are measured, built and run small."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmpose", reason="needs the training set")
from benchmarks.gpu import _networks

COCO = Path(__file__).resolve().parents[4] / "shared" / "assets" / "coco"


@pytest.mark.skipif(not COCO.is_dir(), reason="needs ../shared/assets/coco")
def test_crops_of_people_are_what_the_network_takes_and_finds_them(tmp_path):
    (tmp_path / "coco").symlink_to(COCO)
    subject = _networks.sdpose("sdpose-t", tmp_path, 2)
    people = sum(len(boxes.scores) for boxes in subject.boxes)
    pixels = subject.pixels()
    assert people >= 2 and pixels.shape == (people, 3, 256, 192)  # noqa: PT018
    assert np.ptp(pixels, axis=(1, 2, 3)).min() > 1  # of each person something
    network = subject.open(_networks.CPU)
    assert sum(map(len, subject.poses(network, _networks.CPU)())) == people
