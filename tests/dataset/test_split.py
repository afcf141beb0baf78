import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recognizer.dataset.split import (
    SPLITS,
    SplitSample,
    check_no_leak,
    class_weights,
    folder_split,
    split_by_source,
)

ASSETS = Path(__file__).resolve().parents[3] / "shared" / "assets"
RATIOS = (0.7, 0.2, 0.1)


def member(name, source, label=0):
    return SplitSample(name, name, source, label)


def counts(members, dealt):
    counted = Counter((dealt[m.source], m.label) for m in members)
    labels = sorted({m.label for m in members})
    return {split: [counted[split, label] for label in labels] for split in SPLITS}


def test_own_sources_come_out_exact():
    members = [member(str(i), str(i), i % 2) for i in range(200)]
    dealt = split_by_source(members, 2, RATIOS, 0)
    assert counts(members, dealt) == {"train": [70, 70], "val": [20, 20], "test": [10, 10]}


members_strategy = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=120
).map(lambda rows: [member(f"{i:03d}", f"s{s}", c) for i, (s, c) in enumerate(rows)])


@settings(max_examples=60, deadline=None)
@given(members=members_strategy, seed=st.integers(0, 5), data=st.data())
def test_properties_of_any_split(members, seed, data):
    sources = {m.source for m in members}
    if len(sources) < 3:
        with pytest.raises(ValueError, match="at least 3 sources"):
            split_by_source(members, 3, RATIOS, seed)
        return
    dealt = split_by_source(members, 3, RATIOS, seed)
    assert set(dealt) == sources, "every source in exactly one split"
    assert set(dealt.values()) == set(SPLITS), "no split is empty"
    check_no_leak((m, dealt[m.source]) for m in members)
    shuffled = data.draw(st.permutations(members))
    assert split_by_source(shuffled, 3, RATIOS, seed) == dealt, "order does not matter"


def test_every_class_reaches_every_split_where_it_can():
    """Three sources have the rare class; a careless deal puts all of them into train."""
    members = [member(f"a{i}", f"a{i}", 0) for i in range(60)]
    members += [member(f"b{i}", f"b{i % 3}", 1) for i in range(6)]
    dealt = split_by_source(members, 2, RATIOS, 0)
    assert all(min(row) > 0 for row in counts(members, dealt).values())


def test_one_giant_source():
    members = [member(f"g{i}", "giant", i % 2) for i in range(500)]
    members += [member(f"x{i}", f"x{i}", i % 2) for i in range(20)]
    dealt = split_by_source(members, 2, RATIOS, 0)
    assert dealt["giant"] == "train"
    assert all(min(row) > 0 for row in counts(members, dealt).values())


def test_the_seed_decides_among_equals():
    members = [member(str(i), str(i), i % 2) for i in range(40)]
    dealt = [split_by_source(members, 2, RATIOS, seed) for seed in range(4)]
    assert split_by_source(members, 2, RATIOS, 0) == dealt[0]
    assert len({tuple(sorted(d.items())) for d in dealt}) == 4


def test_a_split_of_share_zero_stays_empty():
    members = [member(str(i), str(i), i % 2) for i in range(20)]
    dealt = split_by_source(members, 2, (0.8, 0.2, 0.0), 0)
    assert counts(members, dealt) == {"train": [8, 8], "val": [2, 2], "test": [0, 0]}
    one = split_by_source([member("a", "only")], 2, (1.0, 0.0, 0.0), 0)
    assert one == {"only": "train"}


@pytest.mark.parametrize("sources", [0, 1, 2])
def test_too_few_sources_are_refused_by_name(sources):
    members = [member(str(i), f"source{i % sources}") for i in range(10 if sources else 0)]
    with pytest.raises(ValueError, match=f"got {sources}") as error:
        split_by_source(members, 1, RATIOS, 0)
    assert all(f"source{i}" in str(error.value) for i in range(sources))


def test_real_sources_of_fights():
    """29 recordings, of very different size, still come out within two clips of the wish."""
    table = ASSETS / "fight_surv" / "sources.csv"
    if not table.is_file():
        pytest.skip(f"needs {table}")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    members = [member(r["video"], r["source"], int(r["class"] == "Fight")) for r in rows]
    for seed in range(3):
        got = counts(members, split_by_source(members, 2, RATIOS, seed))
        for split, share in zip(SPLITS, RATIOS, strict=True):
            for label in (0, 1):
                total = sum(m.label == label for m in members)
                assert abs(got[split][label] - share * total) <= 2


def test_check_names_a_leaked_source():
    pairs = [(member("a", "cam1"), "train"), (member("b", "cam1"), "test")]
    with pytest.raises(ValueError, match="both train and test: cam1"):
        check_no_leak(pairs)


def test_check_names_a_leaked_video():
    pairs = [
        (SplitSample("a@0", "a", "cam1", 0), "train"),
        (SplitSample("a@1", "a", "cam2", 0), "val"),
    ]
    with pytest.raises(ValueError, match="every video in one split only"):
        check_no_leak(pairs)


def test_check_shows_its_counts():
    table = check_no_leak([(member("a", "x"), "train"), (member("b", "y"), "val")])
    rows = {line[:16].strip(): line[16:].split() for line in table.splitlines()}
    assert rows["train and val"] == rows["val and test"] == ["0", "0", "0"]
    assert rows["train"] == rows["val"] == ["1", "1", "1"]
    assert rows["test"] == ["0", "0", "0"]


@pytest.mark.parametrize(
    ("video", "split"),
    [
        ("train/Fight/a.mp4", "train"),
        ("Fight/Validation/a.mp4", "val"),
        ("val/x/a.mp4", "val"),
        ("data/test/a.mp4", "test"),
        ("Fight/test.mp4", None),
        ("training/a.mp4", None),
        ("train/test/a.mp4", None),
        ("val/valid/a.mp4", "val"),
        ("a.mp4", None),
    ],
)
def test_split_from_folders(video, split):
    assert folder_split(video) == split


def test_class_weights_are_inverse_frequency_with_mean_one():
    weights = class_weights({0: 30, 1: 10})
    assert weights == {0: pytest.approx(0.5), 1: pytest.approx(1.5)}
    assert class_weights({0: 5, 1: 0}) == {0: 1.0, 1: 0.0}
