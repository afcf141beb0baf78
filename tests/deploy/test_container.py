"""The container without an engine: linted, checked against the specification, and read.

The images are built and used by deploy/image_test.sh (`make test-image`).
"""

import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

import pytest

from tests.deploy.container import (
    COMPOSE_TEXT,
    DOCKERFILE,
    ENTRYPOINT,
    KINDS,
    LINES,
    ROOT,
    STAGES,
    TEXT,
    WORK_DIR,
)

TARGETS = ("runtime", "training")


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


# --- by others' rules --------------------------------------------------------------


def test_a_linter_finds_nothing_in_the_dockerfile():
    passes(tool("hadolint"), str(DOCKERFILE))


def test_the_compose_file_fits_the_specification():
    passes(
        tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"
    )


@pytest.mark.slow  # the client was seen to spin for ever while it talks to its plugin
def test_compose_itself_starts_one_kind_at_a_time():
    docker = tool("docker")
    probe = [docker, "compose", "version"]
    if subprocess.run(probe, capture_output=True, check=False, timeout=60).returncode:
        pytest.skip("docker has no compose plugin here")
    for kind in KINDS:
        shown = passes(docker, "compose", "--profile", kind, "config", "--services")
        assert set(shown.split()) == {kind, "folders"}
    assert set(passes(docker, "compose", "config", "--services").split()) == {"cpu", "folders"}


@pytest.mark.parametrize(
    "script", ["deploy/entrypoint.sh", "deploy/image_base.sh", "deploy/image_test.sh"]
)
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


def copied_from_here(text):
    """Return the sources of every COPY that takes from the project's folder."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def test_every_source_of_a_copy_is_there_and_sent_to_the_engine():
    sources = copied_from_here(LINES)
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
    copied = copied_from_here(STAGES["program"])
    table = re.findall(r'\("(\w+)\.\w+", "', (ROOT / "main.py").read_text(encoding="utf-8"))
    assert {*table, "recognizer", "configs", "samples", "requirements", "main.py"} <= {*copied}


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_is_packages_then_the_program_then_a_user(target):
    lines = [line for line in STAGES[target].splitlines() if line and line[0] != "#"]
    assert lines == ["COPY --from=program / ./", "USER ${USER_ID}:${GROUP_ID}"]
    assert all(
        source.startswith("requirements/")
        for name, text in STAGES.items()
        if name != "program"
        for source in copied_from_here(text)
    )


@pytest.mark.parametrize(("number", "code"), [("0", 1), ("1000", 0)])
def test_a_user_who_is_root_is_refused(number, code):
    (refusal,) = re.findall(r"^RUN (test .*?)&& groupadd", LINES, re.MULTILINE)
    done = subprocess.run(
        ["sh", "-c", refusal], env={"USER_ID": number}, capture_output=True, check=False
    )
    assert done.returncode == code


def test_how_a_container_starts():
    (entrypoint,) = re.findall(r'^ENTRYPOINT \["(.+)"\]$', TEXT, re.MULTILINE)
    assert re.findall(r"^WORKDIR (.+)$", TEXT, re.MULTILINE) == [str(WORK_DIR)]
    assert ROOT / PurePosixPath(entrypoint).relative_to(WORK_DIR) == ENTRYPOINT
    assert 'CMD ["python3", "main.py", "--mode", "doctor"]' in TEXT


def test_no_host_and_no_secret_is_built_in():
    for text in (TEXT, COMPOSE_TEXT, *((ROOT / n).read_text() for n in (".env", ".env.example"))):
        text = text.replace("RAY_AUTH_MODE: token", "")  # the mode, not one
        assert not re.search(
            r"https?://(?!docs\.)|[\w-]+\.[a-z]{2,}/\w+:|password|token|secret", text
        )
    parents = re.findall(r"^FROM (\S+)", TEXT, re.MULTILINE)
    assert {*parents} - {*STAGES} == {"${PYTHON_IMAGE}", "scratch"}
    (image,) = re.findall(r"^ARG PYTHON_IMAGE=(.+)$", TEXT, re.MULTILINE)
    assert re.fullmatch(r"python:3\.11-slim-\w+", image)  # of the engine's own library


def test_a_windows_clone_has_the_line_ends_that_the_container_needs(tmp_path):
    """With CRLF the entrypoint is a syntax error, and digests of samples/ do not fit."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    clone = tmp_path / "clone"
    options = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf"]
    passes("git", *options, "clone", "--quiet", "--depth", "1", ROOT.as_uri(), str(clone))
    listed = passes("git", *options, "ls-files", "--eol", cwd=clone).splitlines()
    assert len(listed) > 100
    assert [line for line in listed if "w/crlf" in line or "w/mixed" in line] == []
    passes("sh", "-n", "deploy/entrypoint.sh", cwd=clone)
