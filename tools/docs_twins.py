"""Compare the Korean pages with the English pages that they are twins of.

    python -m tools.docs_twins                         # exit 1 and a list of what differs
    python -m tools.docs_twins --record docs/live.md   # its twin says what the page says now
    python -m tools.docs_twins --links                 # lead Korean pages' links to twins

``docs/ko/live.md`` is the twin of ``docs/live.md``, ``README.ko.md`` that of ``README.md``. A twin
has the headings (number and levels), code blocks (apart from comments), code spans, figures, links
and table rows of its page, section by section. docs/ko/twins.json holds a digest of each English
section that a Korean one was written from; where the English text has moved on, the section is
named until the twin follows and is recorded again.
"""

import argparse
import hashlib
import json
import posixpath
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORD = "docs/ko/twins.json"
_ENGLISH, _KOREAN = "docs/", "docs/ko/"
_FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.M | re.S)
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`|<!--.*?-->", re.M | re.S)
_SPAN = re.compile(r"`([^`\n]+)`")
_COMMENT = re.compile(r"(?:^|\s+)#(?:\s.*)?$")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*")

Record = dict[str, dict[str, str]]  # page -> heading -> digest of the English section


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the text below it, up to the next heading of any level.

    Attributes:
        heading: without its marks; numbered where the page has it more than once.
        level: 1 for ``#``.
        text: Markdown below the heading.

    """

    heading: str
    level: int
    text: str

    @property
    def digest(self) -> str:
        """Digest of heading and text; another wrapping of the lines does not change it."""
        words = " ".join(f"{self.heading} {self.text}".split())
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    @property
    def anchor(self) -> str:
        """The anchor that GitHub makes of the heading."""
        return re.sub(r"[^\w\- ]", "", self.heading.lower()).replace(" ", "-")

    @property
    def blocks(self) -> list[str]:
        """Fenced code without comments, line by line."""
        found: list[str] = _FENCE.findall(self.text)
        return ["\n".join(_COMMENT.sub("", li) for li in block.splitlines()) for block in found]

    @property
    def spans(self) -> set[str]:
        """Code between single backticks."""
        return set(_SPAN.findall(_FENCE.sub("", self.text)))

    @property
    def figures(self) -> set[str]:
        """Numbers in the text outside of code and link targets."""
        return set(_FIGURE.findall(_LINK.sub("]", _CODE.sub(" ", self.text))))

    @property
    def links(self) -> list[str]:
        """Link targets as they are written."""
        found: list[str] = _LINK.findall(_CODE.sub("", self.text))
        return found

    @property
    def rows(self) -> int:
        """Lines of tables."""
        return len(re.findall(r"^\|", _FENCE.sub("", self.text), re.M))


def sections(text: str) -> list[Section]:
    """Return the sections of a page, in order; what stands above the first heading is left out."""
    hidden = _FENCE.sub(lambda block: re.sub(r"^#", "\0", block[0], flags=re.M), text)
    heads = list(re.finditer(r"^(#+) (.+)\n?", hidden, re.M))
    found: list[Section] = []
    for head, after in zip_longest(heads, heads[1:]):
        same = sum(head[2] == one[2] for one in heads[: len(found)])
        name = f"{head[2]} ({same + 1})" if same else head[2]
        below = hidden[head.end() : after.start() if after else len(hidden)]
        found.append(Section(name, len(head[1]), below.replace("\0", "#").strip()))
    return found


def twin_path(page: str) -> str:
    """Return where the twin of an English page is: ``docs/a.md`` -> ``docs/ko/a.md``."""
    if page.startswith(_ENGLISH):
        return _KOREAN + page.removeprefix(_ENGLISH)
    return page.removesuffix(".md") + ".ko.md"


def page_path(twin: str) -> str:
    """Return the English page of a twin, the inverse of ``twin_path``."""
    if twin.startswith(_KOREAN):
        return _ENGLISH + twin.removeprefix(_KOREAN)
    return twin.removesuffix(".ko.md") + ".md"


def english_pages(root: Path) -> list[str]:
    """Return the paths of the English pages: those of docs/ and of the repository's root."""
    found = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    paths = sorted(path.relative_to(root).as_posix() for path in found)
    return [path for path in paths if not is_korean(path)]


def is_korean(path: str) -> bool:
    """Tell whether a page's path is that of a Korean page."""
    return path.startswith(_KOREAN) or path.endswith(".ko.md")


def read_record(root: Path) -> Record:
    """Return what docs/ko/twins.json holds."""
    record: Record = json.loads((root / RECORD).read_text(encoding="utf-8"))
    return record


def write_record(root: Path, pages: Sequence[str]) -> None:
    """Record that the twins of these English pages follow their present text.

    Pages that no longer have a twin leave the record.

    Raises:
        FileNotFoundError: a page or its twin does not exist.

    """
    record = read_record(root) if (root / RECORD).is_file() else {}
    for page in pages:
        for path in (page, twin_path(page)):
            if not (root / path).is_file():
                raise FileNotFoundError(
                    f"--record: expected an English page with a twin, such as docs/live.md, got "
                    f"{page}; {path} does not exist"
                )
        record[page] = {one.heading: one.digest for one in _read(root, page)}
    kept = {page: record[page] for page in sorted(record) if (root / twin_path(page)).is_file()}
    text = json.dumps(kept, ensure_ascii=False, indent=1)
    (root / RECORD).write_text(text + "\n", encoding="utf-8")


def moved_on(now: Sequence[Section], recorded: Mapping[str, str]) -> list[str]:
    """Return the headings of English sections that differ from the record, gone ones included."""
    digests = {one.heading: one.digest for one in now}
    every = [*digests, *(heading for heading in recorded if heading not in digests)]
    return [heading for heading in every if digests.get(heading) != recorded.get(heading)]


class Links:
    """Where the links of a page lead, with Korean pages in place of English ones that have a twin.

    Args:
        root: the repository.

    """

    def __init__(self, root: Path) -> None:
        """Read the headings of all pages that have a twin."""
        self._anchors: dict[str, dict[str, str]] = {}
        for page in english_pages(root):
            if (root / twin_path(page)).is_file():
                both = zip(_read(root, page), _read(root, twin_path(page)), strict=False)
                self._anchors[page] = {ours.anchor: theirs.anchor for ours, theirs in both}

    def korean(self, target: str, page: str) -> str:
        """Return a link as path from the root and anchor, those of the twin where there is one.

        Args:
            target: the link as it is written; one with a scheme comes back as it is.
            page: the page that it is in. Its other language is no page to be replaced.

        """
        if re.match(r"[a-z]+:", target):
            return target
        path, mark, anchor = target.partition("#")
        near = posixpath.join(posixpath.dirname(page), path)
        path = posixpath.normpath(near) if path else page
        if path in self._anchors and page != twin_path(path):
            anchor = self._anchors[path].get(anchor, anchor)
            path = twin_path(path)
        return path + mark + anchor

    def mended(self, text: str, page: str) -> str:
        """Return a Korean page with links to twins in place of links to English pages."""

        def replaced(match: re.Match[str]) -> str:
            if match[1] is None or match[1].startswith("#") or re.match(r"[a-z]+:", match[1]):
                return match[0]
            path, mark, anchor = self.korean(match[1], page).partition("#")
            return f"]({posixpath.relpath(path, posixpath.dirname(page) or '.')}{mark}{anchor})"

        return re.sub(f"{_CODE.pattern}|{_LINK.pattern}", replaced, text, flags=re.M | re.S)


def differences(ours: Section, theirs: Section) -> Iterator[str]:
    """Yield what a Korean section lacks of its English one, links apart."""
    if ours.blocks != theirs.blocks:
        yield "other code blocks (only comments may differ)"
    if ours.rows != theirs.rows:
        yield f"{theirs.rows} lines of tables, expected {ours.rows}"
    yield from (f"lacks `{span}`" for span in sorted(ours.spans - theirs.spans))
    yield from (f"lacks the figure {figure}" for figure in sorted(ours.figures - theirs.figures))


def page_problems(root: Path, page: str, links: Links) -> Iterator[str]:
    """Yield how the twin of an English page differs from it."""
    twin = twin_path(page)
    ours, theirs = _read(root, page), _read(root, twin)
    if [one.level for one in ours] != [one.level for one in theirs]:
        yield f"{twin}: expected the headings of {page}, got others: {_headings(ours, theirs)}"
        return
    for english, korean in zip(ours, theirs, strict=True):
        place = f"{twin}, {korean.heading} ({english.heading})"
        yield from (f"{place}: {text}" for text in differences(english, korean))
        led = {links.korean(target, page) for target in english.links}
        has = {links.korean(target, twin) for target in korean.links}
        yield from (f"{place}: lacks a link to {one}" for one in sorted(led - has - {twin, page}))
    text = (root / twin).read_text(encoding="utf-8")
    if links.mended(text, twin) != text:
        yield f"{twin}: links to English pages that have a twin; python -m tools.docs_twins --links"
    for one, other, section in ((page, twin, ours[0]), (twin, page, theirs[0])):
        path = posixpath.relpath(other, posixpath.dirname(one) or ".")
        if path not in section.links:
            yield f"{one}: lacks a link to {path} above its second heading"


def _headings(ours: Sequence[Section], theirs: Sequence[Section]) -> str:
    """Return the first two headings that do not match."""
    for one, other in zip_longest(ours, theirs):
        if not (one and other and one.level == other.level):
            names = ("#" * x.level + " " + x.heading if x else "the end" for x in (one, other))
            return " / ".join(names)
    return ""


def problems(root: Path) -> list[str]:
    """Return what is wrong with the twins of a repository, a line each."""
    record, links = read_record(root), Links(root)
    found: list[str] = []
    korean = [*root.glob("*.ko.md"), *(root / _KOREAN).rglob("*.md")]
    for twin in sorted(path.relative_to(root).as_posix() for path in korean):
        page = page_path(twin)
        if not (root / page).is_file():
            found.append(f"{twin}: expected its English page {page}, which does not exist")
            continue
        found += page_problems(root, page, links)
        for heading in moved_on(_read(root, page), record.get(page, {})):
            found.append(
                f"{page}, {heading}: not what {twin} was written from; bring the twin up to date, "
                f"then python -m tools.docs_twins --record {page}"
            )
    gone = [page for page in record if not (root / twin_path(page)).is_file()]
    return found + [
        f"{RECORD}: expected pages with a twin, got {page}; remove its entry" for page in gone
    ]


def without_twin(root: Path) -> list[str]:
    """Return the English pages that have no twin."""
    return [page for page in english_pages(root) if not (root / twin_path(page)).is_file()]


def _read(root: Path, page: str) -> list[Section]:
    return sections((root / page).read_text(encoding="utf-8"))


def mend_links(root: Path) -> None:
    """Lead the links of all Korean pages to twins where they lead to English pages."""
    links = Links(root)
    for page in english_pages(root):
        file = root / twin_path(page)
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            file.write_text(links.mended(text, twin_path(page)), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Check, record or mend; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs_twins")
    parser.add_argument("--record", nargs="+", metavar="PAGE", help="English pages, docs/live.md")
    parser.add_argument("--links", action="store_true", help="lead Korean pages' links to twins")
    arguments = parser.parse_args(argv)
    if arguments.links:
        mend_links(ROOT)
    if arguments.record:
        try:
            write_record(ROOT, arguments.record)
        except FileNotFoundError as error:
            parser.error(str(error))
    found = problems(ROOT)
    sys.stdout.write(f"without a twin: {', '.join(without_twin(ROOT))}\n")
    sys.stderr.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
