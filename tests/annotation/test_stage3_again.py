"""Equal input gives equal bytes, whatever happened on the way."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from annotation.stage3 import run_stage3
from recognizer.runs.stage_folders import stage3_dir
from tests.annotation.datasets import clips, config, digests, quick_pictures, read_metadata

ROOT = Path(__file__).resolve().parents[2]
__all__ = ["quick_pictures"]
pytestmark = pytest.mark.usefixtures("quick_pictures")


def test_equal_input_gives_equal_bytes_in_any_place(tmp_path):
    first = run_stage3(config(tmp_path / "a", clips(6), window_s=0.5))
    second = run_stage3(config(tmp_path / "b" / "c", clips(6), window_s=0.5))
    assert digests(first) == digests(second)
    assert first.name == second.name
    assert {"train.pkl", "val.pkl", "test.pkl", "metadata.json", "report/class_balance.png"} <= set(
        digests(first)
    )


def test_a_finished_folder_is_left_as_it_is(tmp_path):
    folder = run_stage3(config(tmp_path, clips(4)))
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != ".lock"}
    assert run_stage3(config(tmp_path)) == folder
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.name != ".lock"} == before


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "flipped bit": lambda folder: _flip(folder / "train.pkl"),
    "pickle gone": lambda folder: (folder / "val.pkl").unlink(),
    "metadata gone": lambda folder: (folder / "metadata.json").unlink(),
    "metadata cut": lambda folder: os.truncate(folder / "metadata.json", 100),
    "report gone": lambda folder: (folder / "report" / "summary.txt").unlink(),
    "scratch left": lambda folder: (folder / ".scratch").mkdir(),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_mended(tmp_path, name):
    folder = run_stage3(config(tmp_path, clips(3)))
    before = digests(folder)
    DAMAGE[name](folder)
    run_stage3(config(tmp_path))
    assert digests(folder) == before
    assert not (folder / ".scratch").exists()


def test_new_input_makes_the_data_set_again(tmp_path):
    first = run_stage3(config(tmp_path, clips(3)))
    again = run_stage3(config(tmp_path, clips(4)))
    assert again == first
    assert read_metadata(again)["totals"]["samples"] == 8


RUN = """
import json, sys
from annotation.stage3 import run_stage3
from recognizer.config.schema import Config
from recognizer.runs import figures
from recognizer.storage.artifacts import write_text
figures._save = lambda figure, final, root: write_text(final, root, "a picture")
run_stage3(Config.model_validate(json.loads(sys.argv[1])))
"""


def run_and_kill(settings, after_s):
    """Start stage 3 in a process of its own, kill it, and tell whether it was still at work."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(settings.model_dump(mode="json"))], cwd=ROOT
    )
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def killed_runs_give_the_same(tmp_path, kills):
    def pickles(folder):
        return {name: d for name, d in digests(folder).items() if not name.endswith(".png")}

    undisturbed = pickles(run_stage3(config(tmp_path / "a", clips(20))))
    settings = config(tmp_path / "b", clips(20))
    chance = random.Random(0)
    start = time.monotonic()
    assert not run_and_kill(config(tmp_path / "c", clips(20)), 300)
    alone = time.monotonic() - start
    at_work = 0
    for _ in range(kills):
        at_work += run_and_kill(settings, chance.uniform(0.2 * alone, alone))
        folder = stage3_dir(settings)
        if (folder / "metadata.json").exists():
            assert pickles(folder) == undisturbed
            (folder / "metadata.json").unlink()
    assert pickles(run_stage3(settings)) == undisturbed
    assert at_work > 0


def test_killed_runs_give_the_same_bytes(tmp_path):
    killed_runs_give_the_same(tmp_path, 3)


@pytest.mark.slow
def test_many_killed_runs_give_the_same_bytes(tmp_path):
    killed_runs_give_the_same(tmp_path, 50)
