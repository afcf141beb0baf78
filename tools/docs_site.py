"""Hooks of mkdocs.yml: pages of the repository outside docs/ become pages of the site.

Links in the Markdown files are those of the repository, so that they work on GitHub and in an
editor. A linked file outside docs/ is put under ``repository/`` of the site, and every link is
rewritten to where its target is there. ``api.md`` has the docstrings of the library's public
names in the groups of docs/python.md; mkdocstrings fills it in.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

import recognizer

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = "repository/"  # on the site: what is not in docs/
API = "api.md"  # on the site alone
_DOCS = "docs/"
_CODE = r"^```.*?^```|`[^`\n]+`"
_LINK = r"\]\((?P<path>[^)\s:#]+)(?P<anchor>#[^)\s]*)?\)"
_CODE_OR_LINK = re.compile(f"{_CODE}|{_LINK}", re.M | re.S)


def site_path(path: str) -> str:
    """Return where a file is in the site's sources: ``docs/live.md`` -> ``live.md``."""
    return path.removeprefix(_DOCS) if path.startswith(_DOCS) else OUTSIDE + path


def repository_path(path: str) -> str:
    """Return where a source of the site is in the repository, the inverse of ``site_path``."""
    return path.removeprefix(OUTSIDE) if path.startswith(OUTSIDE) else _DOCS + path


def rewrite(text: str, page: str) -> str:
    """Return a page with its relative links as the site has them; code stays as it is.

    Args:
        text: Markdown.
        page: the page's path in the repository.

    """
    folder = posixpath.dirname(page)
    start = posixpath.dirname(site_path(page)) or "."

    def moved(target: str) -> str:
        return posixpath.relpath(site_path(target), start)

    return _with_links(text, folder, moved)


def linked(text: str, page: str) -> list[str]:
    """Return the paths in the repository that a page links to, in order."""
    found: list[str] = []

    def noted(target: str) -> str:
        found.append(target)
        return target

    _with_links(text, posixpath.dirname(page), noted)
    return found


def outside_files(root: Path) -> list[str]:
    """Return the files outside docs/ that its pages link to, directly or by such a page.

    Raises:
        FileNotFoundError: a page links to what is not a file of the repository.

    """
    waiting = [path.relative_to(root).as_posix() for path in (root / "docs").rglob("*.md")]
    seen = set(waiting)
    while waiting:
        page = waiting.pop()
        for target in linked((root / page).read_text(encoding="utf-8"), page):
            if not (root / target).is_file():
                raise FileNotFoundError(
                    f"{page}: expected a link to a file of the repository, got {target}; "
                    "mend the link"
                )
            if target not in seen:
                seen.add(target)
                waiting += [target] if target.endswith(".md") else []
    return sorted(path for path in seen if not path.startswith(_DOCS))


def groups(page: str) -> dict[str, list[str]]:
    """Return the groups of names in the table of docs/python.md, in its order.

    Raises:
        ValueError: the table does not have each public name once.

    """
    table = page.partition("\n## Names\n")[2]
    rows = re.findall(r"^\| ([a-z ]+) \| (.+) \|$", table, re.M)
    found = {group: re.findall(r"`(\w+)`", names) for group, names in rows}
    listed = sorted(name for names in found.values() for name in names)
    if listed != sorted(set(recognizer.__all__) - {"__version__"}):
        raise ValueError(
            f"docs/python.md, Names: expected each name of recognizer.__all__ once, got {listed}"
        )
    return found


def api_page(page: str) -> str:
    """Return the reference of the library as Markdown for mkdocstrings.

    Args:
        page: docs/python.md, whose table has the groups.

    """
    parts = [
        "# Library reference\n",
        "What `import recognizer as rz` offers, from the docstrings. Coordinates are pixels, times "
        "seconds. [Python](python.md) shows how the names go together.\n",
    ]
    for group, names in groups(page).items():
        parts.append(f"## {group.capitalize()}\n")
        parts += [f"::: recognizer.{recognizer._HOMES[name]}.{name}\n" for name in names]
    return "\n".join(parts)


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the reference and the files outside docs/ that are linked to."""
    from mkdocs.structure.files import File

    for path in outside_files(ROOT):
        source = str(ROOT / path)
        files.append(File.generated(config, site_path(path), abs_src_path=source))
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    files.append(File.generated(config, API, content=api_page(page)))
    return files


def on_page_markdown(markdown: str, page: "Page", **_others: object) -> str:
    """Rewrite the links of a page before it is rendered."""
    return rewrite(markdown, repository_path(page.file.src_uri))


def on_post_page(output: str, page: "Page", **_others: object) -> str:
    """Declare the language of a Korean page."""
    return in_its_language(output, repository_path(page.file.src_uri))


def in_its_language(html: str, page: str) -> str:
    """Return a page of the site with the language that it is in, for browsers and screen readers.

    Args:
        html: the page as the theme makes it, in English.
        page: its path in the repository.

    """
    korean = page.startswith("docs/ko/") or page.endswith(".ko.md")
    return html.replace('<html lang="en"', '<html lang="ko"', 1) if korean else html


def _with_links(text: str, folder: str, change: Callable[[str], str]) -> str:
    """Return a text whose relative link targets, as paths from the root, went through change."""

    def replaced(match: re.Match[str]) -> str:
        path = match["path"]
        if path is None:  # code, or a link within the page
            return match[0]
        target = change(posixpath.normpath(posixpath.join(folder, path)))
        return f"]({target}{match['anchor'] or ''})"

    return _CODE_OR_LINK.sub(replaced, text)
