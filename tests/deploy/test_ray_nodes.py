"""What starts a Ray cluster: the Compose profile and the KubeRay manifest, against each other."""

import re
import shlex

import yaml

from recognizer.config.file import load_config
from recognizer.doctor import read_pins
from tests.deploy.container import COMPOSE_TEXT, ROOT, SERVICES, WORK_DIR

MANIFEST = ROOT / "deploy" / "kuberay.yaml"
KUBERAY = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
HEAD, WORKER = SERVICES["ray-head"], SERVICES["ray-worker"]
PIN = read_pins(ROOT / "requirements" / "ray.txt")["ray"]


def pods():
    spec = KUBERAY["spec"]
    templates = [spec["headGroupSpec"]["template"]]
    return [t["spec"] for t in [*templates, *(g["template"] for g in spec["workerGroupSpecs"])]]


def commands(text):
    """Return the arguments of main.py in comments, which wrap their lines with a backslash."""
    lines = re.sub(r"\\\n\s*#\s*", "", text)
    return [
        shlex.split(rest) for rest in re.findall(r"main\.py (.*annotation\.executor=ray.*)", lines)
    ]


def test_head_and_workers_are_one_image_with_the_same_folders():
    for key in ("image", "build", "volumes", "environment", "working_dir"):
        assert HEAD[key] == WORKER[key]
    assert HEAD["volumes"] == SERVICES["cpu"]["volumes"]
    assert HEAD["profiles"] == WORKER["profiles"] == ["ray"]
    assert "container_name" not in WORKER, "several of one name cannot start"
    assert HEAD["build"]["args"]["EXTRA"] == "ray"


def test_a_cluster_without_a_token_is_not_started():
    """Ray refuses to start in mode token without one; no default token stands in the file."""
    assert HEAD["environment"]["RAY_AUTH_MODE"] == "token"
    assert HEAD["environment"]["RAY_AUTH_TOKEN"] is None
    assert not re.search(r"RAY_AUTH_TOKEN: *\S*\w{8}", COMPOSE_TEXT.replace("# whoever", ""))
    for pod in pods():
        env = {one["name"]: one for one in pod["containers"][0]["env"]}
        assert env["RAY_AUTH_MODE"]["value"] == "token"
        assert "secretKeyRef" in env["RAY_AUTH_TOKEN"]["valueFrom"]


def test_nothing_is_reported_and_the_head_does_no_work():
    assert HEAD["environment"]["RAY_USAGE_STATS_ENABLED"] == "0"
    assert "--num-cpus=0" in HEAD["command"]
    assert "--include-dashboard=false" in HEAD["command"]
    parameters = KUBERAY["spec"]["headGroupSpec"]["rayStartParams"]
    assert parameters == {"num-cpus": "0", "include-dashboard": "false"}


def test_a_node_has_time_to_drain_and_its_object_store_fits_into_shared_memory():
    for service in (HEAD, WORKER):
        assert int(service["stop_grace_period"].removesuffix("s")) > 30, "seconds that Ray drains"
        (store,) = re.findall(r"--object-store-memory=(\d+)", " ".join(service["command"]))
        assert service["shm_size"] == "${RAY_SHM_SIZE:-1gb}"
        assert int(store) < 0.9 * 2**30


def test_the_manifest_is_of_the_pinned_ray():
    assert (KUBERAY["apiVersion"], KUBERAY["kind"]) == ("ray.io/v1", "RayCluster")
    assert KUBERAY["spec"]["rayVersion"] == PIN


def test_pods_mount_what_the_config_reads_and_writes():
    config = load_config(ROOT / "configs" / "config.yaml").annotation
    for pod in pods():
        (container,) = pod["containers"]
        mounts = {one["mountPath"]: one.get("readOnly", False) for one in container["volumeMounts"]}
        inside = {str(WORK_DIR / p.relative_to(ROOT)) for p in (config.input, config.output_dir)}
        assert set(mounts) == inside
        assert mounts[str(WORK_DIR / config.input.relative_to(ROOT))]
        assert {v["name"] for v in pod["volumes"]} == {m["name"] for m in container["volumeMounts"]}
        assert container["workingDir"] == str(WORK_DIR)
        assert container["image"] == HEAD["image"]


def test_worker_pods_have_whole_cpus_that_ray_can_count():
    for group in KUBERAY["spec"]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        resources = group["template"]["spec"]["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]
        assert int(resources["limits"]["cpu"]) >= 1


def test_commands_that_they_name_load():
    found = [*commands(COMPOSE_TEXT), *commands(MANIFEST.read_text(encoding="utf-8"))]
    assert len(found) == 2
    for words in found:
        sets = [word for word in words if "=" in word]
        section = load_config(ROOT / "configs" / "config.yaml", sets).annotation
        assert section.executor == "ray"
        assert section.ray_address.endswith(":6379")
