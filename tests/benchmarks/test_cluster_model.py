"""The cluster on paper: its parts by hand, what grows with what, the text in the guide."""

import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from benchmarks import cluster_model
from benchmarks.cluster_model import Model, Parameters, report, sources

P = Parameters()
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"


def shares(p):
    return {(part.name, part.unit): part.share for part in Model(p).parts()}


def test_rates_by_hand():
    p = replace(P, nodes=2, gpus_a_node=4, gpu_frames_s=100, fps=25, video_s=8, mbit_s=8, hours=1)
    model = Model(p)
    assert model.frames_s == 800
    assert model.footage_s == 32
    assert model.videos_s == 4
    assert model.gpu_hours == pytest.approx(8 / 32)
    assert model.read_gb == pytest.approx(3.6)
    assert model.videos == 450
    assert model.gets_a_video == 1
    assert Model(replace(p, video_s=17)).gets_a_video == 2, "17 MB in parts of 16 MiB"
    assert model.gets == 451, "with the page of the list"


def test_cpus_that_are_fewer_than_the_gpus_need_decide():
    slow = Model(replace(P, cpus_a_node=8, cpu_ms_a_frame=10))
    assert slow.frames_s == P.nodes * 800
    assert shares(slow.p)["CPUs of a node", "cores"] == pytest.approx(1)
    assert shares(slow.p)["GPUs of a node", "frames/s"] == pytest.approx(800 / (8 * 740))


def test_what_all_nodes_share_fills_with_the_nodes():
    few, many = shares(P), shares(replace(P, nodes=3 * P.nodes))
    shared = {(part.name, part.unit) for part in Model(P).parts() if part.shared}
    assert shared
    for key in few:
        assert many[key] == pytest.approx(few[key] * (3 if key in shared else 1))


def test_at_the_nodes_where_a_part_is_full_its_share_is_one():
    for part in Model(P).parts():
        if part.shared:
            full = shares(replace(P, nodes=P.nodes / part.share))
            assert full[part.name, part.unit] == pytest.approx(1)


def test_short_videos_cost_the_driver_more():
    key = ("driver", "core")
    assert shares(replace(P, video_s=10))[key] > shares(P)[key]


def test_each_parameter_is_from_a_place_or_assumed_and_changes_are_marked():
    assert all(one.metadata["source"] for one in fields(P))
    text = sources(replace(P, nodes=7))
    assert "| `nodes` | 7 | command line |" in text
    assert text.count("command line") == 1


def test_the_sum_is_that_of_the_formula(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--price-gpu-hour", "3", "--price-gb", "0.5"])
    cluster_model.main()
    model = Model(P)
    assert f"= {3 * model.gpu_hours + 0.5 * model.read_gb:,.2f}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--nodes", "0"], ["--fps", "nan"], ["--fps", "x"]])
def test_a_bad_number_is_one_line(words, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", *words])
    with pytest.raises(SystemExit) as ended:
        cluster_model.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_guide_shows_what_it_prints():
    text = GUIDE.read_text(encoding="utf-8")
    assert report(P) in text
    assert sources(P) in text
