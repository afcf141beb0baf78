"""Korean pages say what the English pages say now; what differs is named."""

from pathlib import Path

import pytest

from tools import docs_twins
from tools.docs_twins import (
    Links,
    english_pages,
    mend_links,
    page_path,
    problems,
    sections,
    twin_path,
    without_twin,
    write_record,
)

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = """\
# A page

[한국어](ko/a.md)

Needs `x.y` and 12 GB; see [b](b.md#two).

```
run --it  # the first
# then
run --again
```

## Rest

| key | use |
|---|---|
| `k` | 3 s |
"""
KOREAN = """\
# 문서

[English](../a.md)

`x.y`와 12 GB가 필요합니다. [b](../b.md#two)를 보세요.

```
run --it  # 첫째
# 다음
run --again
```

## 나머지

| 키 | 용도 |
|---|---|
| `k` | 3초 |
"""


@pytest.fixture
def repository(tmp_path):
    """Make a repository of one page with a twin, and one without."""
    (tmp_path / "docs" / "ko").mkdir(parents=True)
    (tmp_path / "docs" / "a.md").write_text(ENGLISH, "utf-8")
    (tmp_path / "docs" / "b.md").write_text("# B\n\n## Two\n\nText.\n", "utf-8")
    (tmp_path / "docs" / "ko" / "a.md").write_text(KOREAN, "utf-8")
    write_record(tmp_path, ["docs/a.md"])
    return tmp_path


def test_the_korean_pages_follow_the_english_ones():
    """Names each section that moved on, and the command that records its twin."""
    assert problems(ROOT) == []


def test_there_are_twins_to_check():
    twins = set(english_pages(ROOT)) - set(without_twin(ROOT))
    assert {"README.md", "docs/index.md", "docs/quickstart.md", "docs/deploy.md"} <= twins


def test_a_twin_that_follows_its_page_has_no_problem(repository):
    assert problems(repository) == []
    assert without_twin(repository) == ["docs/b.md"]


@pytest.mark.parametrize("page", ["README.md", "docs/live.md", "docs/gpu/README.md"])
def test_a_page_and_its_twin_lead_to_each_other(page):
    assert page_path(twin_path(page)) == page


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("`x.y`와 ", "", "docs/ko/a.md, 문서 (A page): lacks `x.y`"),
        ("12 GB", "21 GB", "docs/ko/a.md, 문서 (A page): lacks the figure 12"),
        ("run --again", "run again", "문서 (A page): other code blocks (only comments may differ)"),
        ("b.md#two", "b.md#one", "docs/ko/a.md, 문서 (A page): lacks a link to docs/b.md#two"),
        ("| `k` | 3초 |", "`k`: 3초", "나머지 (Rest): 2 lines of tables, expected 3"),
        (
            "## 나머지",
            "### 나머지",
            "expected the headings of docs/a.md, got others: ## Rest / ###",
        ),
        ("## 나머지", "나머지", "got others: ## Rest / the end"),
        ("[English](../a.md)", "", "docs/ko/a.md: lacks a link to ../a.md above its second"),
    ],
)
def test_what_a_twin_lacks_is_named(repository, old, new, expected):
    assert old in KOREAN
    (repository / "docs" / "ko" / "a.md").write_text(KOREAN.replace(old, new), "utf-8")
    (found,) = problems(repository)
    assert expected in found


def test_a_section_that_moved_on_is_named_until_its_twin_is_recorded(repository):
    changed = ENGLISH.replace("Needs `x.y`", "Takes `x.y`")
    (repository / "docs" / "a.md").write_text(changed, "utf-8")
    assert problems(repository) == [
        "docs/a.md, A page: not what docs/ko/a.md was written from; bring the twin up to date, "
        "then python -m tools.docs_twins --record docs/a.md"
    ]
    write_record(repository, ["docs/a.md"])
    assert problems(repository) == []


def test_a_renamed_section_is_named_by_both_names(repository):
    (repository / "docs" / "a.md").write_text(ENGLISH.replace("# Rest", "# Others"), "utf-8")
    assert [line.partition(":")[0] for line in problems(repository)] == [
        "docs/a.md, Others",
        "docs/a.md, Rest",
    ]


def test_another_wrapping_of_lines_is_no_change(repository):
    wrapped = ENGLISH.replace("Needs `x.y` and", "Needs `x.y`\nand")
    (repository / "docs" / "a.md").write_text(wrapped, "utf-8")
    assert problems(repository) == []


def test_links_are_led_to_twins_with_their_anchors(repository):
    (repository / "docs" / "b.md").write_text("# B\n\n[한](ko/b.md)\n\n## Two\n\nText.\n", "utf-8")
    (repository / "docs" / "ko" / "b.md").write_text("# 비\n\n[En](../b.md)\n\n## 둘\n", "utf-8")
    write_record(repository, ["docs/b.md"])
    (found,) = problems(repository)
    assert found.startswith("docs/ko/a.md: links to English pages that have a twin")
    mend_links(repository)
    assert problems(repository) == []
    text = (repository / "docs" / "ko" / "a.md").read_text("utf-8")
    assert text == KOREAN.replace("../b.md#two", "b.md#둘")


def test_links_in_code_and_to_other_hosts_stay(repository):
    text = "`[a](../a.md)` [b](https://example.org/docs/a.md) [c](#문서) [d](../gone.md)"
    assert Links(repository).mended(text, "docs/ko/c.md") == text


def test_a_twin_of_no_page_and_a_record_of_no_twin_are_named(repository):
    (repository / "docs" / "ko" / "a.md").rename(repository / "docs" / "ko" / "c.md")
    assert problems(repository) == [
        "docs/ko/c.md: expected its English page docs/c.md, which does not exist",
        "docs/ko/twins.json: expected pages with a twin, got docs/a.md; remove its entry",
    ]


def test_headings_in_code_are_none_and_equal_ones_are_numbered():
    found = sections("# A\n```\n# no heading\n```\n## B\none\n## B\ntwo\n")
    assert [(one.level, one.heading) for one in found] == [(1, "A"), (2, "B"), (2, "B (2)")]
    assert found[0].text == "```\n# no heading\n```"


def test_the_command_records_and_refuses_a_page_without_a_twin(repository, monkeypatch, capsys):
    monkeypatch.setattr(docs_twins, "ROOT", repository)
    (repository / "docs" / "a.md").write_text(ENGLISH.replace("3 s", "3 s, "), "utf-8")
    assert docs_twins.main([]) == 1
    assert "docs/a.md, Rest: not what docs/ko/a.md" in capsys.readouterr().err
    assert docs_twins.main(["--record", "docs/a.md"]) == 0
    assert capsys.readouterr().out == "without a twin: docs/b.md\n"
    with pytest.raises(SystemExit):
        docs_twins.main(["--record", "docs/b.md"])
    assert "docs/ko/b.md does not exist" in capsys.readouterr().err
