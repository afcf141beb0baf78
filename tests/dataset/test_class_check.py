"""Classes compared with folders, splits and copies."""

import pytest

from recognizer.dataset.class_check import class_faults, class_warnings
from tests.dataset.made import made

FIGHTS = ("NonFight", "Fight")


def of(*named):
    """Return samples of (name, label), each with keypoints of its own."""
    samples = []
    for number, (name, label) in enumerate(named):
        sample = made(name, label)
        samples.append(made(name, label, keypoints=sample.keypoints + number))
    return samples


@pytest.mark.parametrize(
    ("named", "classes", "message"),
    [
        ([("Fight/a", 0), ("NonFight/b", 1)], FIGHTS, "folder Fight has label 0, which is NonFi"),
        ([("x/fight/a", 0), ("x/NONFIGHT/b", 1)], FIGHTS, "folder NonFight has label 1"),
        ([("A/1", 1), ("B/2", 2), ("C/3", 0)], ("A", "B", "C"), "A has label 1, which is B"),
        ([("A/1", 0), ("B/2", 2), ("C/3", 1)], ("A", "B", "C"), "B has label 2, which is C"),
        ([("Fight/a", 1), ("NonFight/b", 0)], FIGHTS, ""),
        # Before the fall nobody falls: folders need not be labels.
        ([("Fall/a", 0), ("Fall/b", 0), ("Fall/c", 1), ("Normal/d", 0)], ("Normal", "Fall"), ""),
        ([("Fall/a", 0), ("day/b", 1)], ("Normal", "Fall"), ""),
        ([("a", 0), ("b", 1)], FIGHTS, ""),
        ([], FIGHTS, ""),
    ],
)
def test_folders_that_changed_places(named, classes, message):
    faults = list(class_faults(of(*named), classes))
    assert len(faults) == bool(message)
    assert message in "".join(faults)


@pytest.mark.parametrize(
    ("named", "warned"),
    [
        ([("Fight/a", 1), ("NonFight/b", 0)], True),
        ([("Fight/a", 1), ("NonFight/b", 0), ("Fight/c", 0)], False),
        ([("cam1/a", 1), ("cam1/b", 0)], False),
        ([("Fall/a", 1), ("NonFight/b", 0)], False),
        ([("a", 1), ("b", 0)], False),
    ],
)
def test_folders_of_another_service_are_warned_of(named, warned):
    warnings = list(class_warnings({"train": of(*named)}, ("Normal", "Fall")))
    assert len(warnings) == warned
    assert all("data set of another service" in warning for warning in warnings)


@pytest.mark.parametrize("classes", [FIGHTS, None])
def test_validation_without_a_class(classes):
    samples = of(("a", 0), ("b", 1), ("c", 1), ("d", 1))
    both, one = samples[:2], samples[2:]
    assert list(class_warnings({"train": both, "test": one}, classes)) == []
    (warning,) = class_warnings({"train": both, "val": one}, classes)
    fight, calm = ("Fight", "NonFight") if classes else ("class 1", "class 0")
    assert f"only 2 of {fight} and none of {calm}: its accuracy says nothing" in warning


def test_copies_under_another_name():
    train = of(*((f"t{number}", number % 2) for number in range(8)))
    copies = [made(f"v{n}", s.label, keypoints=s.keypoints) for n, s in enumerate(train[:7])]
    first, second = class_warnings({"train": train, "val": copies, "test": copies[:1]}, FIGHTS)
    assert "val: 7 of 7 samples are copies of samples of train" in first
    assert "v4 is t4, ..." in first
    assert "v5" not in first
    assert "test: 1 of 1 samples are copies" in second
