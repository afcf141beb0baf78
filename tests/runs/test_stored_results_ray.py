"""Stages 1 and 2 on Ray, with videos and results in object storage."""

import os
from importlib.util import find_spec

import pytest

from recognizer.config.file import load_config
from recognizer.runs.cluster import probe
from recognizer.runs.cluster.session import marker_in, ray_session
from recognizer.runs.stage1 import extract_poses, run_stage1
from recognizer.runs.stage2 import make_tracks, run_stage2
from recognizer.storage import objects
from tests import object_server
from tests.annotation import clips
from tests.object_server import BUCKET

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs requirements/ray.txt")
OUT = f"s3://{BUCKET}/out"


@pytest.fixture(scope="module")
def store():
    """A store that is there before Ray, whose processes keep the environment of their start."""
    with pytest.MonkeyPatch.context() as patch, object_server.reached(patch) as server:
        yield server


@pytest.fixture(scope="module")
def ray(store):
    with ray_session(None):
        yield


def test_results_are_the_bytes_of_a_local_run(ray, store, tmp_path):
    dataset = clips.make_dataset(tmp_path, clips=2)
    here = load_config(dataset, ["annotation.workers=1"])
    run_stage1(here)
    run_stage2(here)
    data = tmp_path / "data"
    for path in data.rglob("*.mp4"):
        store.objects[f"data/{path.relative_to(data).as_posix()}"] = path.read_bytes()
    sets = [f"annotation.input=s3://{BUCKET}/data", f"annotation.output_dir={OUT}"]
    there = load_config(dataset, [*sets, "annotation.executor=ray"])
    extract_poses(there)
    make_tracks(there)
    kept = {k.removeprefix("out/"): v for k, v in store.objects.items() if k.startswith("out/")}
    kept = {name: data for name, data in kept.items() if not name.endswith(".journal")}
    assert kept == clips.contents(tmp_path / "out")


def test_a_node_that_cannot_read_the_output_is_found_before_work(store, monkeypatch):
    from recognizer import __version__

    with marker_in(OUT) as marker:
        assert probe.examine_node(__version__, marker, [], {}) == ([], [])
        (fault,) = probe.examine_node(__version__, (marker[0], "another"), [], {})[0]
        assert f"found no object that it wrote at {OUT}/.scratch/ray-" in fault
        monkeypatch.setattr(objects, "_RETRIES", {"max_retries": 0})
        objects._open.cache_clear()
        store.refused = (403, "AccessDenied")
        try:
            (fault,) = probe.examine_node(__version__, marker, [], {})[0]
        finally:
            store.refused = None
    assert "the credentials in the environment are refused" in fault
    assert "with which it started Ray" in fault
    assert not any(".scratch" in key for key in store.objects)
    assert os.environ["AWS_ENDPOINT_URL"] == store.address
