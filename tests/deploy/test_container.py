"""The container without an engine: linted, checked against the specification, read, and run.

The image itself is built and tried by deploy/image_test.sh (`make test-image`, root).
"""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest
import yaml

from deploy.dockerfile import copy_parts, expand, lineage, read_stages, shell_lines

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
TEXT = DOCKERFILE.read_text(encoding="utf-8")
BEFORE, STAGES = read_stages(TEXT)
TARGETS = ("runtime", "training")
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES = COMPOSE["services"]
KINDS = ("cpu", "gpu", "tensorrt", "train")
WORK_DIR = PurePosixPath("/workspace/recognizer")
ENTRYPOINT = ROOT / "deploy" / "entrypoint.sh"


def tool(name):
    """Return a program installed beside this Python, or anywhere; skip without it."""
    found = shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (requirements/dev.txt)")
    return found


def passes(*command, cwd=ROOT):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def steps(target, *names):
    found = [step for stage in lineage(STAGES, target) for step in stage.steps]
    return [step for step in found if not names or step.name in names]


def settings(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


# --- by others' rules --------------------------------------------------------------


def test_a_linter_finds_nothing_in_the_dockerfile():
    passes(tool("hadolint"), str(DOCKERFILE))


def test_the_compose_file_fits_the_specification():
    passes(
        tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"
    )


def test_compose_itself_starts_one_kind_at_a_time():
    docker = tool("docker")
    probe = [docker, "compose", "version"]
    if subprocess.run(probe, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("docker has no compose plugin here")
    for kind in KINDS:
        shown = passes(docker, "compose", "--profile", kind, "config", "--services")
        assert set(shown.split()) == {kind, "folders"}
    assert set(passes(docker, "compose", "config", "--services").split()) == {"cpu", "folders"}


@pytest.mark.parametrize("script", ["deploy/entrypoint.sh", "deploy/image_test.sh"])
def test_scripts_can_be_run(script):
    assert os.access(ROOT / script, os.X_OK)
    shell = (
        (ROOT / script).read_text(encoding="utf-8").splitlines()[0].rpartition("/")[2].split()[-1]
    )
    passes(shell, "-n", script)


# --- the Dockerfile ----------------------------------------------------------------


def ignored(path):
    """Tell whether .dockerignore keeps a path from the engine: the last rule that fits counts."""
    verdict = False
    for rule in (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n"):
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!")
        names = [*map(str, list(PurePosixPath(path).parents)[:-1]), path]
        if any(fnmatch(name, pattern.replace("**/", "*")) for name in names):
            verdict = not rule.startswith("!")
    return verdict


def test_every_source_of_a_copy_is_there_and_sent_to_the_engine():
    sources = [
        source
        for stage in STAGES.values()
        for step in stage.steps
        if step.name == "COPY"
        for where, names, _ in [copy_parts(step)]
        for source in names
        if where is None
    ]
    assert len(sources) > 10
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), source


def test_nothing_private_is_sent_to_the_engine():
    for path in (
        ".env",
        ".git",
        ".git/config",
        "weights/a.pth",
        "output/x",
        "data/a.mp4",
        "Makefile",
    ):
        assert ignored(path), path
    assert ignored("recognizer/__pycache__/a.pyc")
    assert ignored("deploy/a.pyc")


def test_what_the_program_imports_is_copied():
    """main.py's table names modules of these packages, and each reads its own folders."""
    copied = {source for step in STAGES["program"].steps for source in copy_parts(step)[1]}
    table = re.findall(r'\("(\w+)\.\w+", "', (ROOT / "main.py").read_text(encoding="utf-8"))
    assert {*table, "recognizer", "configs", "samples", "requirements", "main.py"} <= copied


@pytest.mark.parametrize("target", TARGETS)
def test_it_ends_as_a_user_who_is_not_root(target):
    defaults = dict(step.text.partition("=")[::2] for step in steps(target, "ARG"))
    user, group = expand(steps(target, "USER")[-1].text, defaults).split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert steps(target)[-1].name == "USER"
    (makes_user,) = [step for step in steps(target, "RUN") if "useradd" in step.text]
    refusal = makes_user.text.partition("&&")[0]
    for number, code in [("0", 1), ("1000", 0)]:
        done = subprocess.run(
            ["sh", "-c", refusal], env={"USER_ID": number}, capture_output=True, check=False
        )
        assert done.returncode == code


@pytest.mark.parametrize("target", TARGETS)
def test_how_a_container_of_it_starts(target):
    (entrypoint,) = [json.loads(step.text) for step in steps(target, "ENTRYPOINT")]
    (command,) = [json.loads(step.text) for step in steps(target, "CMD")]
    (health,) = steps(target, "HEALTHCHECK")
    (folder,) = [step.text for step in steps(target, "WORKDIR")]
    assert PurePosixPath(folder) == WORK_DIR
    assert ROOT / PurePosixPath(entrypoint[0]).relative_to(WORK_DIR) == ENTRYPOINT
    assert command == ["idle"]
    checked = json.loads(health.text.partition("CMD")[2])
    assert checked == ["python3", "main.py", "--mode", "doctor"]


@pytest.mark.parametrize("target", TARGETS)
def test_packages_come_before_sources(target):
    order = [step.text for step in steps(target, "RUN", "COPY")]
    installs = [i for i, text in enumerate(order) if "pip install" in text]
    program = order.index("--from=program / ./")
    assert installs
    assert max(installs) < program
    before = [copy_parts(step)[1] for step in steps(target, "COPY") if "program" not in step.text]
    assert all(source.startswith("requirements/") for names in before for source in names)


def test_only_the_training_image_has_torch():
    lists = {target: str([step.text for step in steps(target, "RUN")]) for target in TARGETS}
    assert "training.txt" not in lists["runtime"]
    assert "--no-deps -r requirements/openmmlab.txt" in lists["training"]
    assert "torch" not in (ROOT / "requirements" / "base.txt").read_text(encoding="utf-8").split(
        "=="
    )


def test_no_host_and_no_secret_is_built_in():
    for text in (TEXT, COMPOSE_TEXT, *((ROOT / n).read_text() for n in (".env", ".env.example"))):
        assert not re.search(
            r"https?://(?!docs\.)|[\w-]+\.[a-z]{2,}/\w+:|password|token|secret", text
        )
    for stage in STAGES.values():  # images of the engine's own library, by name and version
        image = expand(stage.parent, {"PYTHON_IMAGE": BEFORE[0].text.partition("=")[2]})
        assert image in STAGES or re.fullmatch(r"scratch|python:3\.11-slim-\w+", image)


@pytest.mark.parametrize("target", TARGETS)
def test_the_image_test_runs_every_run_step_in_order(target):
    lines = list(shell_lines(TEXT, target, {}))
    runs = [line.rpartition(" -- ")[2].strip("'") for line in lines if line.startswith("step_run")]
    wanted = [step.text for step in steps(target, "RUN")]
    assert [run.replace("'\"'\"'", "'") for run in runs] == wanted
    assert lines[-1].startswith("step_end 1000:1000 /workspace/recognizer PATH=/opt/venv/bin")
    assert [line for line in lines if line.startswith("step_stage")] == ["step_stage program"]


# --- reading a Dockerfile ----------------------------------------------------------


def test_reading_what_is_written_over_several_lines():
    text = (
        "arg A=1\n# no\nFROM a AS b\nRUN x \\\n  # why\n  && y\\\n z\n\n"
        "ENV C=${A}2 D=${E:-3}${A:+4}\n"
    )
    before, stages = read_stages(text)
    assert [(step.name, step.text, step.line) for step in before] == [("ARG", "A=1", 1)]
    run, variables = stages["b"].steps
    assert (run.text, run.line) == ("x && y z", 4)
    assert expand(variables.text, {"A": "1"}) == "C=12 D=34"
    assert list(shell_lines(text, "b", {"A": "7"})) == [
        "step_run 0:0 / A=7 -- 'x && y z'", "step_end 0:0 / C=72 D=34",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "FORM a AS b", "FROM a", "FROM a AS b\nFROM c AS b", "FROM a AS b\nRUN <<EOF\nx\nEOF",
        "FROM a AS b\nRUN x \\", "# escape=`\nFROM a AS b",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match="line"):
        read_stages(text)


def test_unknown_targets_and_flags_are_refused():
    with pytest.raises(ValueError, match="runtime, training"):
        list(shell_lines(TEXT, "debug", {}))
    with pytest.raises(ValueError, match="--chmod"):
        list(shell_lines("FROM a AS b\nCOPY --chmod=1 x y", "b", {}))
