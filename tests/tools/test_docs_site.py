"""The site has every page, and its links lead where those of the repository do."""

import re
from pathlib import Path

import pytest

import recognizer
from tools.docs_site import (
    API,
    OUTSIDE,
    api_page,
    groups,
    in_its_language,
    linked,
    outside_files,
    repository_path,
    rewrite,
    site_path,
)

ROOT = Path(__file__).resolve().parents[2]
SITE = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
PYTHON = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
NAV = re.findall(r"([\w./-]+\.md)$", SITE.partition("\nnav:\n")[2], re.M)


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("docs/live.md", "[a](limits.md#b) ![c](live.png)", "[a](limits.md#b) ![c](live.png)"),
        ("docs/ko/a.md", "[a](../../README.md#b)", "[a](../repository/README.md#b)"),
        ("README.md", "[a](docs/live.md)", "[a](../live.md)"),
        ("samples/models/README.md", "[a](../../docs/a.md)", "[a](../../../a.md)"),
        ("samples/README.md", "[a](models/README.md)", "[a](models/README.md)"),
        ("docs/a.md", "[a](https://example.org/b.md) [b](#c)", None),
        ("docs/a.md", "`[a](../b.md)`\n```\n[a](../b.md)\n```\n", None),
    ],
)
def test_a_link_leads_to_the_same_file_on_the_site(page, text, expected):
    assert rewrite(text, page) == (text if expected is None else expected)


@pytest.mark.parametrize("path", ["docs/ko/quickstart.md", "samples/README.md", "README.md"])
def test_the_paths_of_the_site_are_those_of_the_repository(path):
    assert repository_path(site_path(path)) == path


def test_pages_outside_docs_are_found_through_other_pages(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("[b](../b.md) [c](c.md)")
    (tmp_path / "docs" / "c.md").write_text("no links")
    (tmp_path / "b.md").write_text("[d](d/e.csv) [a](docs/a.md)")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "e.csv").write_text("1")
    assert outside_files(tmp_path) == ["b.md", "d/e.csv"]
    (tmp_path / "d" / "e.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.md: expected a link to a file.*d/e\.csv"):
        outside_files(tmp_path)


def test_links_are_listed_by_their_place_in_the_repository():
    text = "[a](../README.md#x) [b](https://example.org) `[c](d.md)`"
    assert linked(text, "docs/b.md") == ["README.md"]


def test_the_navigation_has_every_page_once():
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    outside = [OUTSIDE + path for path in outside_files(ROOT) if path.endswith(".md")]
    assert sorted(NAV) == sorted([*pages, *outside, API])


def test_the_reference_has_every_public_name_below_its_group():
    text = api_page(PYTHON)
    tracks = text.partition("## Tracks\n")[2].partition("\n## ")[0]
    assert "::: recognizer.tracking.tracker.Tracker\n" in tracks
    assert text.count("\n::: ") == len(recognizer.__all__) - 1  # all but __version__


def test_a_name_that_the_page_lacks_is_refused():
    assert groups(PYTHON)["errors"][0] == "ModelError"
    with pytest.raises(ValueError, match=r"docs/python\.md, Names: expected each name"):
        groups(PYTHON.replace("`ModelError`, ", ""))


@pytest.mark.parametrize(
    ("page", "language"),
    [("docs/ko/live.md", "ko"), ("README.ko.md", "ko"), ("docs/live.md", "en")],
)
def test_a_page_declares_its_language(page, language):
    html = '<!doctype html>\n<html lang="en" class="no-js">\n'
    assert in_its_language(html, page) == html.replace("en", language)


def test_the_site_asks_no_other_host():
    texts = [SITE, *(path.read_text("utf-8") for path in (ROOT / "docs").rglob("*.css"))]
    assert not [found for text in texts for found in re.findall(r"https?://|//\w+\.", text)]
    assert "font: false" in SITE


def test_the_picture_of_the_way_names_parts_of_the_library_in_their_order():
    picture = (ROOT / "docs" / "way.svg").read_text(encoding="utf-8")
    shown = re.findall(r">(recognizer/\w+)<", picture)
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert shown == re.findall(r"^(recognizer/\w+) ", page, re.M)
