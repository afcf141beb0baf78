"""A measurement that is asked to end says so and keeps what it has; the kept one is in docs/."""

import json
import os
import signal
import time

import pytest
import torch

from benchmarks.gpu import fsd, fsd_report, fsd_run
from benchmarks.gpu._part import ROOT, Options, Results
from benchmarks.gpu.fsd_plan import plan_of

DOCS = ROOT / "docs" / "gpu" / "nvidia_h200"


class Runner:
    """Learns nothing, at once; at step ``end`` the process is asked to end."""

    graph = None

    def __init__(self, name, end=4):
        self.kind, self.steps, self.end = fsd_run.Kind(name, "fsd"), 0, end

    def reset(self, weights):
        self.weights = weights

    def set_progress(self, step, progress):
        self.progress = progress

    def step(self):
        self.steps += 1
        if self.steps == self.end:
            os.kill(os.getpid(), signal.SIGTERM)

    def read(self):
        return {
            "heatmap_loss": 0.004,
            "vis_dist_loss": 1e-4,
            "kpt_dist_loss": 1e-5,
            "max_token": 80.0,
        }


@pytest.fixture
def notes():
    return json.loads((DOCS / "fsd.json").read_text(encoding="utf-8"))["about"]


@pytest.fixture
def shared(monkeypatch):
    """Return what runners share, without people; batches, weights and figures are made up."""
    batch = fsd.fsd_batch.Batch(
        torch.zeros(1, 3, 8, 8), torch.zeros(1, 17, 8, 8), torch.ones(1, 17)
    )
    shared = fsd.SharedData(None, {}, batch, torch.device("cpu"))
    monkeypatch.setattr(fsd, "batches_of", lambda *_: ((i / 9, batch) for i in range(99)))
    figures = dict.fromkeys(("coco_ap", "coco_ap50", "lspet_ap", "lspet_pck"), 0.0)
    monkeypatch.setattr(fsd, "evaluate", lambda *_: figures)
    monkeypatch.setattr(fsd_run, "first_weights", lambda *_: {})
    return shared


@pytest.fixture
def run(tmp_path, notes, shared):
    """Return a call that trains one runner for at most nine steps, and the results."""
    plan, _ = plan_of(["--steps", "9", "--starts", "spread"])
    results = Results(tmp_path / "fsd.json", {"about": notes})

    def call(seconds):
        options = Options(tmp_path, "cpu", seconds, True, tmp_path, time.monotonic() + seconds)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            fsd.run_starts(options, plan, shared, [Runner("fsd, teacher detached")], results)
        finally:
            signal.signal(signal.SIGTERM, before)

    return call, results


def test_what_is_asked_to_end_keeps_its_windows_and_says_so(run, tmp_path):
    call, _ = run
    with pytest.raises(KeyboardInterrupt):
        call(600)
    record = json.loads((tmp_path / "fsd.json").read_text())["spread, seed 0"]
    assert record["outcome"] == "stopped at its limit"
    assert [window["step"] for window in record["windows"]] == [1, 2, 3]
    assert record["evaluations"][0]["seconds"] >= 0
    report = (tmp_path / "fsd.md").read_text()
    assert "stopped at its limit. Ran away: 0 of 1 with detached" in report
    assert (tmp_path / "fsd_curves.png").is_file()


def test_without_time_for_a_step_nothing_is_claimed(run):
    call, results = run
    call(3)
    assert list(results.values) == ["about"]


@pytest.fixture
def part(tmp_path, monkeypatch, notes, shared):
    """Return the whole part, with one runner, as a call that gives the results; and the runner."""
    packed = tmp_path / "fsd"
    packed.mkdir()
    (packed / "train.npz").touch()
    (packed / "notes.json").write_text(json.dumps(notes["data"]))
    runner = Runner("fsd, teacher detached", end=None)
    monkeypatch.setattr(fsd, "prepare", lambda *_: shared)
    monkeypatch.setattr(fsd, "build_runs", lambda *_: [runner])
    monkeypatch.setattr(fsd, "measure_steps", lambda *_: {"together": 1, "runs": 1, "eager": 1})

    def call(*given):
        assert (
            fsd.main(["--device", "cpu", "--out", str(tmp_path), "--data", str(tmp_path), *given])
            == 0
        )
        return json.loads((tmp_path / "fsd.json").read_text())

    return call, runner


def test_a_training_that_the_time_ended_is_not_complete_and_a_second_call_goes_on(
    part, monkeypatch
):
    call, runner = part
    given = ("--steps", "9", "--starts", "spread", "--seconds", "600")
    with monkeypatch.context() as patch:
        patch.setattr(fsd.Clock, "over", property(lambda _: runner.steps >= 3))
        found = call(*given)
    assert found["spread, seed 0"]["outcome"] == "stopped at its limit"
    assert "complete" not in found
    found = call(*given)
    assert found["spread, seed 0"]["outcome"] == "finished"
    assert found["spread, seed 0"]["steps"] == 9
    assert found["complete"] is True
    call(*given)
    assert runner.steps == 3 + 9  # nothing was left for a third call


def test_without_time_for_a_start_the_part_is_not_complete(part):
    call, runner = part
    assert "complete" not in call("--seconds", "3")
    assert runner.steps == 0


def test_kept_report_says_what_the_kept_figures_say(notes):
    values = json.loads((DOCS / "fsd.json").read_text(encoding="utf-8"))
    assert (DOCS / "fsd.md").read_text(encoding="utf-8") == fsd_report.text(values)
    by_name = {kind.name: kind for kind in fsd_run.KINDS}
    records = fsd_report.trainings(values)
    assert len(records) == 2
    for record in records.values():
        assert record["names"] == list(by_name)
        for name, kind in by_name.items():
            assert (fsd_report.ran_away(record, name) is not None) == bool(kind.detached)
