"""Room on a Ray cluster: workers that fit on a node, and what others have taken."""

import time
from importlib.util import find_spec

import pytest

from recognizer.runs.cluster import membership
from recognizer.runs.cluster.membership import Membership
from recognizer.runs.cluster.session import marker_in, ray_session
from recognizer.runs.cluster.settings import Cluster
from recognizer.runs.worker_pool import RunError

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs requirements/ray.txt")


def cluster(folder, num_cpus=1.0, num_gpus=0.0):
    return Cluster(None, num_cpus, num_gpus, None, folder)


@pytest.mark.parametrize(
    ("num_cpus", "num_gpus", "node", "slots"),
    [
        (1.0, 0.0, (8, 0), 8),
        (3.0, 0.0, (8, 0), 2),
        (0.1, 0.0, (1, 0), 10),
        (1.0, 1.0, (8, 2), 2),
        (1.0, 1.0, (8, 0), 0),
        (1.0, 0.5, (8, 2), 4),
        (1.0, 0.3, (8, 1), 3),
        (1.0, 2.0, (8, 3), 1),
        (1.0, 1.0, (1, 8), 1),
        (1.0, 0.0, (0, 0), 0),
    ],
)
def test_workers_that_fit_on_a_node(tmp_path, num_cpus, num_gpus, node, slots):
    assert cluster(tmp_path, num_cpus, num_gpus).slots(*node) == slots


@pytest.fixture(scope="module")
def ray():
    import ray

    with ray_session(None):
        yield ray


class Holder:
    """Another job of the cluster."""

    def is_there(self) -> bool:
        return True


@pytest.fixture
def hold(ray):
    """Return a function that takes CPUs of the cluster as another job does."""
    held = []

    def take(cpus):
        actor = ray.remote(num_cpus=cpus)(Holder).remote()
        held.append(actor)
        assert ray.get(actor.is_there.remote())
        return actor

    yield take
    for actor in held:
        ray.kill(actor)


def test_workers_get_what_other_jobs_leave_and_the_first_message_says_so(
    ray, hold, tmp_path, monkeypatch
):
    total = int(ray.cluster_resources()["CPU"])
    hold(total - 1)
    monkeypatch.setattr(membership, "_FREE_S", 3.0)
    with marker_in(tmp_path) as marker:
        members = Membership(cluster(tmp_path), marker)
        text = members.introduce(10)
    assert f"{total} CPUs, 0 GPUs), of which 1 CPU, 0 GPUs are free: other jobs have" in text
    assert text.endswith("10 inputs for 1 worker of 1 CPU, 0 GPUs")
    assert [fit.slots for fit in members.fit] == [1]


def test_a_cluster_that_others_fill_is_named_and_taken_once_it_is_free(
    ray, hold, tmp_path, monkeypatch
):
    holder = hold(int(ray.cluster_resources()["CPU"]))
    monkeypatch.setattr(membership, "_FREE_S", 1.0)
    with marker_in(tmp_path) as marker:
        members = Membership(cluster(tmp_path), marker)
        with pytest.raises(RunError, match=r"of which 0 CPUs, 0 GPUs are free.*wait until other"):
            members.introduce(10)
        ray.kill(holder)
        deadline = time.monotonic() + 60
        while not members.fit:
            assert time.monotonic() < deadline
            members.look(time.monotonic(), idle=False)
            time.sleep(0.1)
