"""Files that other programs read: citation, issue forms, changelog."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import recognizer

ROOT = Path(__file__).resolve().parents[1]
CITATION = ROOT / "CITATION.cff"
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
CHECKED = [
    pytest.param("vendor.citation-file-format", [CITATION], id="citation"),
    pytest.param("vendor.github-issue-forms", FORMS, id="issue forms"),
]


def check(schema, files):
    """Run check-jsonschema, which brings these schemas, and return its exit code."""
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        schema,
        *map(str, files),
    ]
    return subprocess.run(command, capture_output=True, check=False).returncode


@pytest.mark.parametrize(("schema", "files"), CHECKED)
def test_the_files_keep_their_schema(schema, files):
    assert files
    assert check(schema, files) == 0


def test_a_citation_without_authors_is_refused(tmp_path):
    lines = CITATION.read_text("utf-8").replace("authors:\n  - name: The Recognizer authors\n", "")
    (tmp_path / "CITATION.cff").write_text(lines, "utf-8")
    assert check("vendor.citation-file-format", [tmp_path / "CITATION.cff"]) == 1


def test_the_citation_has_the_version_and_licence_of_the_package():
    citation = yaml.safe_load(CITATION.read_text("utf-8"))
    assert citation["version"] == recognizer.__version__
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'license = "{citation["license"]}"' in project
    assert f'description = "{citation["abstract"].removesuffix(".")}"' in project


def test_the_changelog_is_headed_by_what_is_not_released():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", one) for one in headings[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Not run yet"}
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= kinds


def test_a_bug_report_asks_for_the_doctors_output():
    bug = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text("utf-8"))
    asked = {part["id"]: part for part in bug["body"] if "id" in part}
    assert "--mode doctor" in asked["doctor"]["attributes"]["label"]
    assert asked["doctor"]["validations"]["required"]
