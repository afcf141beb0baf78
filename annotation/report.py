"""The report beside the pickles: charts, contact sheets and a summary text."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from annotation.clips import CONFIDENCE_BINS, ClassStatistics
from annotation.contact_sheet import ContactSheets
from annotation.metadata import Dataset, Metadata, unreadable_negatives
from annotation.near_duplicates import TABLE, describe_comparison, write_table
from recognizer.dataset.split import SPLITS
from recognizer.names import printable
from recognizer.runs.figures import (
    Draw,
    class_color,
    columns,
    left,
    legend,
    plain,
    save_figures,
)
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.strips import Strip, draw_strip, slot_legend
from recognizer.storage.artifacts import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT = "report"
_MAX_FAILURES = 200
Statistics = Mapping[str, ClassStatistics]


def write_report(
    folder: Path,
    dataset: Dataset,
    metadata: Metadata,
    sheets: ContactSheets,
    progress: ProgressFactory,
) -> list[str]:
    """Write ``report/``: summary.txt, near_duplicates.csv, four charts, a contact sheet per class.

    Returns:
        The names of its files, relative to ``folder``.

    Equal input gives equal bytes.

    Raises:
        OSError: the disk is full or not writable.

    """
    report = folder / REPORT
    slots, negatives = dataset.section.num_person, dataset.negative_counts()
    pictures: dict[str, Draw] = {
        "class_balance.png": lambda f: _balance(f, dataset.counts(), sum(negatives.values())),
        "clip_lengths.png": lambda f: _lengths(f, dataset.statistics),
        "people_per_frame.png": lambda f: _people(f, dataset.statistics, slots),
        "keypoint_confidence.png": lambda f: _confidence(f, dataset.statistics),
    }
    save_figures(report, folder, pictures)
    sheet_names = write_sheets(folder, sheets, progress, negatives)
    write_text(report / "summary.txt", folder, summarise(metadata))
    write_table(report / TABLE, folder, dataset.near_duplicates)
    others = [*pictures, "summary.txt", TABLE]
    return sorted([*sheet_names, *(f"{REPORT}/{name}" for name in others)])


def write_sheets(
    folder: Path, sheets: ContactSheets, progress: ProgressFactory, negatives: Mapping[str, int]
) -> list[str]:
    """Write a contact sheet per class; return their names, relative to ``folder``.

    They do not show ``negatives``, whose number by class stands above.

    Those of an earlier run are removed first: they may show classes that no longer exist, or faces
    that shall no longer be shown.
    """
    for old in (folder / REPORT).glob("skeletons_*.png"):
        old.unlink()
    pictures = {
        f"{REPORT}/skeletons_{name}.png": partial(
            _sheet, title=f"{plain(name)}{_plus_negatives(negatives.get(name, 0))}", strips=strips
        )
        for name, strips in sheets.by_class(progress).items()
    }
    save_figures(folder, folder, pictures)
    return list(pictures)


def _balance(figure: "Figure", counts: Mapping[str, Mapping[str, int]], negatives: int) -> None:
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
    labels[0] += _plus_negatives(negatives)
    axes.set_xticks(range(len(SPLITS)), labels)
    axes.locator_params(axis="y", integer=True)
    axes.set_ylabel("samples")
    axes.set_title("Samples by split and class")
    axes.margins(y=0.12)
    legend(figure, axes)


def _lengths(figure: "Figure", statistics: Statistics) -> None:
    axes = figure.subplots()
    longest = max((max(f.seconds) for f in statistics.values() if f.seconds), default=1.0)
    edges = np.linspace(0, longest * 1.001, 31)
    values = [np.asarray(f.seconds) for f in statistics.values()]
    colors = [class_color(i) for i in range(len(values))]
    labels = [plain(name) for name in statistics]
    axes.hist(values, bins=edges.tolist(), stacked=True, color=colors, label=labels)
    axes.set_xlabel("length (s)")
    axes.set_ylabel("samples")
    axes.set_title("Length of the samples")
    axes.set_xlim(0, longest * 1.02)
    legend(figure, axes)


def _people(figure: "Figure", statistics: Statistics, slots: int) -> None:
    axes = figure.subplots()
    shares = {n: f.people / max(f.people.sum(), 1) for n, f in statistics.items()}
    last = max(int(np.flatnonzero(s).max(initial=0)) for s in shares.values())
    last = max(last, slots)
    width = 0.8 / len(shares)
    for i, (name, share) in enumerate(shares.items()):
        at = np.arange(last + 1) + (i - (len(shares) - 1) / 2) * width
        axes.bar(at, share[: last + 1] * 100, width * 0.95, color=class_color(i), label=plain(name))
    axes.axvline(slots + 0.5, color="black", linestyle=":", linewidth=1.2)
    axes.text(slots + 0.45, axes.get_ylim()[1], f"{slots} slots", ha="right", va="top")
    top = next(iter(statistics.values())).people.size - 1
    ticks = range(last + 1)
    axes.set_xticks(ticks, [f"{n}+" if n == top else str(n) for n in ticks])
    axes.set_xlabel("tracked people in a frame")
    axes.set_ylabel("frames (% of the class)")
    axes.set_title("People per frame")
    legend(figure, axes)


def _confidence(figure: "Figure", statistics: Statistics) -> None:
    axes = figure.subplots()
    edges = np.linspace(0, 1, CONFIDENCE_BINS + 1)
    for i, (name, f) in enumerate(statistics.items()):
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
    legend(figure, axes)


def _sheet(figure: "Figure", title: str, strips: list[Strip]) -> None:
    figure.set_size_inches(13, 1.0 + 1.95 * max(len(strips), 1))
    grid = figure.subplots(max(len(strips), 1), 1, squeeze=False)[:, 0]
    for axes, strip in zip(grid, strips, strict=True):
        people = "1 person" if strip.people == 1 else f"{strip.people} people"
        text = f"{strip.name}: {people}, people seen in {strip.visible:.0%} of the frames"
        draw_strip(axes, strip, text)
    figure.suptitle(f"Class {title}: a few moments of {len(strips)} samples", fontsize=13)
    slot_legend(figure, max((strip.people for strip in strips), default=1))


# --- text --------------------------------------------------------------------------


def summarise(metadata: Metadata) -> str:
    """Return the summary text: counts, weights, the table of the leak check, and failures."""
    totals = metadata["totals"]
    samples = f"{totals['samples']} samples{_plus_negatives(totals.get('negatives', 0))}"
    lines = [
        f"{samples} for {metadata['service']}, from {totals['inputs']} videos: "
        f"{totals['done']} done, {totals['damaged']} damaged, {totals['refused']} refused",
        f"left out: {totals['parts_left_out']} parts of videos, "
        f"{totals['windows_without_people']} windows in which nobody was tracked, "
        f"{totals['windows_without_class']} windows of which no class covers half",
        "",
        *_count_table(metadata),
        *_negatives_lines(metadata),
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
    return "".join(f"{printable(line)}\n" for line in lines)


def _plus_negatives(count: int) -> str:
    return f" + {count} negatives" if count else ""


def _negatives_lines(metadata: Metadata) -> list[str]:
    value = metadata.get("negatives")
    if value is None:
        return []
    return [
        "",
        f"Negatives, learnt from as {value['class']} in train alone (windows of "
        f"{value['window_s']:g} s, at most {value['max_s_per_video']:g} s of a video):",
        *(
            f"- {one['folder']}: {one['samples']} samples of {one['videos_used']} of "
            f"{one['videos']} videos, {one['windows_with_people']} windows with people"
            for one in value["folders"]
        ),
    ]


def _count_table(metadata: Metadata) -> list[str]:
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
