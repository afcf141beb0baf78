"""Pictures and a page of text beside the pickles, for a person who wants to look."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from annotation.clips import CONFIDENCE_BINS, ClassStatistics
from annotation.contact_sheet import MOMENTS, ContactSheets, Strip, slot_color
from annotation.metadata import Dataset
from annotation.near_duplicates import TABLE, describe_comparison, write_table
from annotation.negatives_report import negatives_lines, plus_negatives, unreadable_negatives
from annotation.progress import ProgressFactory
from recognizer.artifacts import atomic_path, write_text
from recognizer.dataset.split import SPLITS
from recognizer.text import font_files, readable

REPORT = "report"
# Okabe and Ito's colours, for classes in order.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999")
_MAX_FAILURES = 200
Figures = Mapping[str, ClassStatistics]


def write_report(
    folder: Path,
    dataset: Dataset,
    metadata: Mapping[str, Any],
    sheets: ContactSheets,
    watch: ProgressFactory,
) -> list[str]:
    """Write ``report/``: summary.txt, near_duplicates.csv, four charts, a contact sheet per class.

    Returns:
        The names of its files, relative to ``folder``.

    Equal input gives equal bytes.

    Raises:
        OSError: the disk is full or not writable.

    """
    report = folder / REPORT
    slots, further = dataset.section.num_person, dataset.negative_counts()
    pictures: dict[str, Callable[[Any], None]] = {
        "class_balance.png": lambda f: _balance(f, dataset.counts(), sum(further.values())),
        "clip_lengths.png": lambda f: _lengths(f, dataset.figures),
        "people_per_frame.png": lambda f: _people(f, dataset.figures, slots),
        "keypoint_confidence.png": lambda f: _confidence(f, dataset.figures),
    }
    for name, draw in pictures.items():
        save_figure(report / name, folder, draw)
    sheet_names = write_sheets(folder, sheets, watch, further)
    write_text(report / "summary.txt", folder, summarise(metadata))
    write_table(report / TABLE, folder, dataset.near_duplicates)
    others = [*pictures, "summary.txt", TABLE]
    return sorted([*sheet_names, *(f"{REPORT}/{name}" for name in others)])


def write_sheets(
    folder: Path, sheets: ContactSheets, watch: ProgressFactory, negatives: Mapping[str, int]
) -> list[str]:
    """Write a contact sheet per class; return their names, relative to ``folder``.

    They do not show ``negatives``, whose number by class stands above.

    Those of an earlier run are removed first: they may show classes that are no more, or faces
    that shall not be seen any longer.
    """
    for old in (folder / REPORT).glob("skeletons_*.png"):
        old.unlink()
    names = []
    for name, strips in sheets.by_class(watch).items():
        names.append(f"{REPORT}/skeletons_{name}.png")
        save_figure(
            folder / names[-1],
            folder,
            partial(
                _sheet,
                title=f"{plain(name)}{plus_negatives(negatives.get(name, 0))}",
                strips=strips,
            ),
        )
    return names


def save_figure(final: Path, root: Path, draw: Callable[[Any], None]) -> None:
    """Write the picture that ``draw`` makes of a matplotlib figure as PNG, atomically.

    ``draw`` may be called twice: names may need further fonts, which must be known before.
    """
    # Figure alone draws with Agg: no window system, no state shared with the caller's plots.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    fonts: tuple[Path, ...] = ()
    while fonts != font_files():
        fonts = font_files()
        with rc_context({**style, "font.family": _families(fonts)}):
            figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
            draw(figure)
            if fonts == font_files():
                _save(figure, final, root)


def _save(figure: Any, final: Path, root: Path) -> None:
    with atomic_path(final, root) as scratch:
        # matplotlib's version in the file would make bytes depend on it.
        figure.savefig(scratch, format="png", metadata={"Software": None})


def _families(fonts: Sequence[Path]) -> list[str]:
    """Return matplotlib's names of font files, after telling it of them."""
    from matplotlib import font_manager

    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in fonts:
        if str(path) not in known:
            font_manager.fontManager.addfont(str(path))
    return [font_manager.get_font(str(path)).family_name for path in fonts]


def plain(text: str) -> str:
    """Return text that matplotlib shows as it is; it would take $...$ for a formula."""
    return readable(text).replace("$", r"\$")


def class_color(position: int) -> str:
    """Return the colour of a class or a series."""
    return _COLORS[position % len(_COLORS)]


def _balance(figure: Any, counts: Mapping[str, Mapping[str, int]], negatives: int) -> None:
    axes = figure.subplots()
    names = list(counts[SPLITS[0]])
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        at = np.arange(len(SPLITS)) + (i - (len(names) - 1) / 2) * width
        values = [counts[split][name] for split in SPLITS]
        bars = axes.bar(at, values, width * 0.95, color=class_color(i), label=plain(name))
        axes.bar_label(bars, padding=2)
    totals = [sum(counts[split].values()) for split in SPLITS]
    labels = [f"{split}\n{n} samples" for split, n in zip(SPLITS, totals, strict=True)]
    labels[0] += plus_negatives(negatives)
    axes.set_xticks(range(len(SPLITS)), labels)
    axes.set_ylabel("samples")
    axes.set_title("Samples by split and class")
    axes.margins(y=0.12)
    _legend(figure, axes)


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)


def _lengths(figure: Any, figures: Figures) -> None:
    axes = figure.subplots()
    longest = max((max(f.seconds) for f in figures.values() if f.seconds), default=1.0)
    edges = np.linspace(0, longest * 1.001, 31)
    values = [np.asarray(f.seconds) for f in figures.values()]
    colors = [class_color(i) for i in range(len(values))]
    labels = [plain(name) for name in figures]
    axes.hist(values, bins=edges, stacked=True, color=colors, label=labels)
    axes.set_xlabel("length (s)")
    axes.set_ylabel("samples")
    axes.set_title("Length of the samples")
    axes.set_xlim(0, longest * 1.02)
    _legend(figure, axes)


def _people(figure: Any, figures: Figures, slots: int) -> None:
    axes = figure.subplots()
    shares = {n: f.people / max(f.people.sum(), 1) for n, f in figures.items()}
    last = max(int(np.flatnonzero(s).max(initial=0)) for s in shares.values())
    last = max(last, slots)
    width = 0.8 / len(shares)
    for i, (name, share) in enumerate(shares.items()):
        at = np.arange(last + 1) + (i - (len(shares) - 1) / 2) * width
        axes.bar(at, share[: last + 1] * 100, width * 0.95, color=class_color(i), label=plain(name))
    axes.axvline(slots + 0.5, color="black", linestyle=":", linewidth=1.2)
    axes.text(slots + 0.45, axes.get_ylim()[1], f"{slots} slots", ha="right", va="top")
    top = next(iter(figures.values())).people.size - 1
    ticks = range(last + 1)
    axes.set_xticks(ticks, [f"{n}+" if n == top else str(n) for n in ticks])
    axes.set_xlabel("tracked people in a frame")
    axes.set_ylabel("frames (% of the class)")
    axes.set_title("People per frame")
    _legend(figure, axes)


def _confidence(figure: Any, figures: Figures) -> None:
    axes = figure.subplots()
    edges = np.linspace(0, 1, CONFIDENCE_BINS + 1)
    for i, (name, f) in enumerate(figures.items()):
        total = max(int(f.confidence.sum()), 1)
        share = f.confidence / total * 100
        missing = 100 * f.missing / (total + f.missing)
        label = f"{plain(name)}\nmean {f.confidence_sum / total:.2f}, {missing:.0f} % missing"
        axes.stairs(share, edges, color=class_color(i), linewidth=2, label=label)
    axes.set_xlabel("keypoint score of the pose network")
    axes.set_ylabel("keypoints found (% of the class)")
    axes.set_title("Keypoint confidence of the people seen")
    axes.set_xlim(0, 1)
    axes.set_ylim(0)
    _legend(figure, axes)


def _sheet(figure: Any, title: str, strips: list[Strip]) -> None:
    figure.set_size_inches(13, 1.0 + 1.95 * max(len(strips), 1))
    grid = figure.subplots(max(len(strips), 1), 1, squeeze=False)[:, 0]
    for axes, strip in zip(grid, strips, strict=True):
        people = "1 person" if strip.people == 1 else f"{strip.people} people"
        text = f"{strip.name}: {people}, somebody seen in {strip.seen:.0%} of the frames"
        draw_strip(axes, strip, text)
    figure.suptitle(f"Class {title}: a few moments of {len(strips)} samples", fontsize=13)
    slot_legend(figure, max((strip.people for strip in strips), default=1))


def draw_strip(axes: Any, strip: Strip, title: str) -> None:
    """Draw one row of a contact sheet, with the time below each moment."""
    axes.imshow(strip.image[..., ::-1], interpolation="antialiased")
    axes.set_yticks([])
    cell = strip.image.shape[1] / MOMENTS
    at = [(i + 0.5) * cell for i in range(len(strip.seconds))]
    axes.set_xticks(at, [f"{s:.1f} s" for s in strip.seconds], fontsize=8)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    axes.set_title(plain(title), loc="left", fontsize=10, pad=3)


def slot_legend(figure: Any, people: int) -> None:
    """Draw which colour is which slot, below a contact sheet."""
    from matplotlib.lines import Line2D

    handles = []
    for slot in range(min(people, 5)):
        blue, green, red = slot_color(slot)
        text = f"slot {slot + 1}" + (" (most involved)" if slot == 0 else "")
        text = "further slots" if slot == 4 else text
        color = (red / 255, green / 255, blue / 255)
        handles.append(Line2D([], [], color=color, linewidth=5, label=text))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)


# --- text --------------------------------------------------------------------------


def summarise(metadata: Mapping[str, Any]) -> str:
    """Return the page of text: counts, weights, the proof of no leak, what failed and why."""
    totals = metadata["totals"]
    samples = f"{totals['samples']} samples{plus_negatives(totals.get('negatives', 0))}"
    lines = [
        f"{samples} for {metadata['service']}, from {totals['inputs']} videos: "
        f"{totals['done']} done, {totals['damaged']} damaged, {totals['refused']} refused",
        f"left out: {totals['parts_left_out']} parts of videos, "
        f"{totals['windows_without_people']} windows in which nobody was tracked, "
        f"{totals['windows_without_class']} windows of which no class covers half",
        "",
        *_count_table(metadata),
        *negatives_lines(metadata.get("negatives")),
        "",
        f"Split by {metadata['split_by']}. Nothing may be in two splits:",
        *metadata["no_leak"],
        describe_comparison(metadata["near_duplicates"]),
    ]
    if metadata["warnings"]:
        lines += ["", "Warnings:", *(f"- {text}" for text in metadata["warnings"])]
    failures = list((metadata["failures"] | unreadable_negatives(metadata)).items())
    if failures:
        lines += ["", "Refused or damaged:"]
        lines += [f"- {video}: {reason}" for video, reason in failures[:_MAX_FAILURES]]
        if len(failures) > _MAX_FAILURES:
            lines.append(f"- and {len(failures) - _MAX_FAILURES} more; see metadata.json")
    return "\n".join(lines) + "\n"


def columns(text: str) -> int:
    """Return how many columns of a page of text a text takes: Hangul and Han letters take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def left(text: str, width: int) -> str:
    """Return text filled up with blanks to a number of columns."""
    return text + " " * (width - columns(text))


def right(text: str, width: int) -> str:
    """Return text with blanks before it, to a number of columns."""
    return " " * (width - columns(text)) + text


def _count_table(metadata: Mapping[str, Any]) -> list[str]:
    names = sorted(metadata["classes"], key=lambda name: int(metadata["classes"][name]))
    width = max(12, *(columns(name) + 2 for name in names))
    header = f"{'':<{width}}" + "".join(f"{s:>8}" for s in SPLITS) + f"{'weight':>10}"
    lines = [header]
    for name in names:
        counts = (metadata["splits"][split]["by_class"][name] for split in SPLITS)
        cells = "".join(f"{n:>8}" for n in counts)
        lines.append(f"{left(name, width)}{cells}{metadata['class_weights'][name]:>10.3f}")
    if count := metadata["totals"].get("negatives"):
        lines.append(f"{left('+ negatives', width)}{count:>8}")
    return lines
