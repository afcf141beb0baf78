"""Charts by matplotlib, and columns of text, for every report."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recognizer.storage.artifacts import atomic_path
from recognizer.text import font_files, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Draw = Callable[["Figure"], None]
# Okabe and Ito's colours, for classes in order.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")


def save_figure(final: Path, root: Path, draw: Draw) -> None:
    """Write the picture that ``draw`` makes of a matplotlib figure as PNG, atomically.

    ``draw`` may be called twice: names may need further fonts, which must be known before.
    """
    # Figure alone draws with Agg: no window system, no state shared with the caller's plots.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    fonts: tuple[Path, ...] = ()
    while fonts != font_files():
        fonts = font_files()
        with rc_context(
            {
                "font.size": 11,
                "font.family": _families(fonts),
                "axes.spines.top": False,
                "axes.spines.right": False,
            }
        ):
            figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
            draw(figure)
            if fonts == font_files():
                _save(figure, final, root)


def save_figures(folder: Path, root: Path, pictures: Mapping[str, Draw]) -> None:
    """Write several pictures, by file name, as ``save_figure`` does."""
    for name, draw in pictures.items():
        save_figure(folder / name, root, draw)


def _save(figure: "Figure", final: Path, root: Path) -> None:
    with atomic_path(final, root) as scratch:
        # matplotlib's version in the file would make bytes depend on it.
        figure.savefig(scratch, format="png", metadata={"Software": None})


def _families(fonts: Sequence[Path]) -> list[str]:
    """Register font files with matplotlib; return its names of them."""
    from matplotlib import font_manager

    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in fonts:
        if str(path) not in known:
            font_manager.fontManager.addfont(str(path))
    return [font_manager.get_font(str(path)).family_name for path in fonts]


def plain(text: str) -> str:
    """Return text that matplotlib shows as it is; it takes $...$ for a formula."""
    return readable(text).replace("$", r"\$")


def class_color(position: int) -> str:
    """Return the colour of a class or a series."""
    return _COLORS[position % len(_COLORS)]


def legend(figure: "Figure", axes: "Axes") -> None:
    """Draw the legend of the axes beside them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)


def columns(text: str) -> int:
    """Return how many columns of monospaced text it takes: Hangul and Han letters take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def left(text: str, width: int) -> str:
    """Return text padded on the right to a number of columns."""
    return text + " " * (width - columns(text))


def right(text: str, width: int) -> str:
    """Return text padded on the left to a number of columns."""
    return " " * (width - columns(text)) + text
