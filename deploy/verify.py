"""Run the same frames through every backend that is here and say how far they are apart.

``deploy.model: pose``: keypoints in pixels, scores, boxes and people of each backend against the
most exact one (torch, else ONNX Runtime on the CPU); and, where ``onnx.model_input_size`` is
another shape than the network was trained with, that shape against the trained one. ``fight`` and
``falldown``: probabilities of the ONNX classifier against the checkpoints it was made of.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deploy.backends import CANNOT_OPEN, Candidate, Skipped, candidates, frames, report_dir
from deploy.pose_parity import Parity, compare
from recognizer.action.classifier import find_classifier
from recognizer.backends.metadata import PoseModelMetadata
from recognizer.backends.network import NonFiniteOutputError
from recognizer.backends.onnx_files import read_metadata
from recognizer.command import next_command
from recognizer.config.action import DeployConfig
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.installation import SHIPPED_MODELS
from recognizer.models import cores
from recognizer.storage.artifacts import write_json, write_text
from recognizer.types import Image, Poses

logger = logging.getLogger(__name__)

EXIT_DONE, EXIT_APART = 0, 1
# How far above the threshold somebody may be missed: rounding moves scores by so much.
_EDGES = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.02, "int8": 0.1}
_RECTANGLE_EDGE = 0.02


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a comparison must keep.

    Attributes:
        median_px: most distance of a keypoint in the median, image pixels.
        worst_px: most distance of any; None: any distance.
        missed: largest share of the people whom one alone may see.
        edge: somebody scored at most this above the threshold is not counted as missed.

    """

    median_px: float
    worst_px: float | None
    missed: float
    edge: float


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a backend against another.

    Attributes:
        name: the backend.
        against: the one it is compared with.
        parity: how far they are apart.
        tolerance: what was allowed.
        wrong: what is over it; empty: nothing.

    """

    name: str
    against: str
    parity: Parity
    tolerance: Tolerance
    wrong: str


def verify(config: Config, progress: Any) -> int:
    """Compare every backend that is here (``--mode deploy.verify``); return the exit code.

    Args:
        config: the whole config.
        progress: what every mode is given to show progress; this one logs.

    Returns:
        0; 1 where something is over its tolerance or not a number, or nobody was seen.

    Raises:
        ConfigError: fewer than two backends, or no checkpoint to compare a classifier with.
        FileNotFoundError, ModelError: a file that is not there or cannot be used.

    """
    if config.deploy.model != "pose":
        return _verify_classifier(config)
    found, skipped = candidates(config)
    pictures, source = frames(config)
    logger.info("comparing %d backends on %d frames of %s", len(found), len(pictures), source)
    seen, missing = look(found, pictures)
    skipped += missing
    rows = [*compare_all(config, found, seen), *compare_rectangle(config, found, pictures, seen)]
    broken = [one.name for one in skipped if one.broken]
    if not rows and not broken:
        raise ConfigError(
            "deploy.verify: expected two backends or more to compare, got "
            f"{', '.join(seen) or 'none'}; " + "; ".join(f"{s.name}: {s.reason}" for s in skipped)
        )
    people = max((row.parity.people for row in rows), default=0)
    _report(config, rows, skipped, source)
    if broken:
        logger.error("numbers that are not finite: %s", ", ".join(broken))
        return EXIT_APART
    if not people:
        logger.error("nobody was seen by two backends: this proves nothing; set deploy.frames_dir")
        return EXIT_APART
    wrong = [row.name for row in rows if row.wrong]
    if wrong:
        logger.error(
            "%d of %d comparisons are over their tolerance: %s",
            len(wrong),
            len(rows),
            ", ".join(wrong),
        )
        return EXIT_APART
    logger.info("all %d comparisons are within their tolerance", len(rows))
    logger.info("next: %s", next_command(config, "deploy.benchmark"))
    return EXIT_DONE


def look(
    found: Sequence[Candidate], pictures: Sequence[Image]
) -> tuple[dict[str, list[Poses]], list[Skipped]]:
    """Return what each backend sees in every frame, and those that cannot run here."""
    seen: dict[str, list[Poses]] = {}
    skipped = []
    for candidate in found:
        start = time.monotonic()
        try:
            model = candidate.open(cores())
            seen[candidate.name] = [poses for image in pictures for poses in model([image])]
        except CANNOT_OPEN as error:
            broken = isinstance(error, NonFiniteOutputError)
            skipped.append(Skipped(candidate.name, str(error), broken))
            logger.warning("%s: left out: %s", candidate.name, error)
            continue
        logger.info("%s: done in %.1f s", candidate.name, time.monotonic() - start)
    return seen, skipped


def compare_all(
    config: Config, found: Sequence[Candidate], seen: dict[str, list[Poses]]
) -> list[Row]:
    """Return a row for every backend but the most exact one, which all are compared with."""
    took_part = [candidate for candidate in found if candidate.name in seen]
    exact = [candidate for candidate in took_part if candidate.precision == "fp32"]
    if not exact:
        return []
    reference = exact[0]
    threshold = _threshold(reference)
    return [
        _row(c.name, reference.name, seen, threshold, tolerance_of(config.deploy, c.precision))
        for c in took_part
        if c is not reference
    ]


def compare_rectangle(
    config: Config,
    found: Sequence[Candidate],
    pictures: Sequence[Image],
    seen: dict[str, list[Poses]],
) -> list[Row]:
    """Return a row for an input of another shape than the trained one; none where it is the same.

    The network sees the same picture at the same size, with less grey below it: people and
    keypoints should hardly move, and this is where that is looked at.
    """
    wanted = config.models.pose_estimation.onnx.model_input_size
    ours = next((c for c in found if c.name in seen and c.settings.inference_mode == "onnx"), None)
    if wanted is None or ours is None or ours.settings.kind != "rtmo":
        return []
    facts = PoseModelMetadata.of(read_metadata(ours.files["pose"]))
    trained = (max(wanted), max(wanted)) if facts is None else facts.input_size
    if tuple(wanted) == trained:
        return []
    block = ours.settings.onnx.model_copy(update={"model_input_size": trained})
    square = Candidate(
        f"{ours.name} {trained[0]}x{trained[1]}",
        ours.settings.model_copy(update={"onnx": block}),
        ours.files,
        ours.precision,
    )
    by_square, missing = look([square], pictures)
    if missing:
        logger.warning("%s: no check of the shape: %s", square.name, missing[0].reason)
        return []
    name = f"{ours.name} {wanted[0]}x{wanted[1]}"
    both = {name: seen[ours.name], **by_square}
    section = config.deploy
    tolerance = Tolerance(
        section.rectangle_tolerance_px, None, section.tolerance_missed, _RECTANGLE_EDGE
    )
    return [_row(name, square.name, both, _threshold(ours), tolerance)]


def tolerance_of(section: DeployConfig, precision: str) -> Tolerance:
    """Return what a backend of this precision must keep against one in single precision."""
    edge = _EDGES[precision]
    if precision == "fp32":
        return Tolerance(section.tolerance_px, section.worst_px, 0.0, edge)
    limit = section.int8_tolerance_px if precision == "int8" else section.fp16_tolerance_px
    return Tolerance(limit, None, section.tolerance_missed, edge)


def wrong_with(parity: Parity, tolerance: Tolerance) -> str:
    """Return what is over the tolerance, empty if nothing is; not a number is over it."""
    faults = []
    if not parity.median_px <= tolerance.median_px:
        faults.append(f"median {parity.median_px:.3g} px > {tolerance.median_px:g}")
    if tolerance.worst_px is not None and not parity.worst_px <= tolerance.worst_px:
        faults.append(f"worst {parity.worst_px:.3g} px > {tolerance.worst_px:g}")
    allowed = int(tolerance.missed * (parity.people + parity.only_one))
    if parity.only_one > allowed:
        faults.append(f"{parity.only_one} people seen by one alone > {allowed}")
    return "; ".join(faults)


def _threshold(candidate: Candidate) -> float:
    settings = candidate.settings
    if settings.kind == "topdown":  # its people are the detector's
        return settings.topdown.detector.score_threshold
    return float(getattr(settings, settings.inference_mode).score_threshold)


def _row(
    name: str, against: str, seen: dict[str, list[Poses]], threshold: float, tolerance: Tolerance
) -> Row:
    parity = compare(seen[against], seen[name], threshold=threshold, edge=tolerance.edge)
    return Row(name, against, parity, tolerance, wrong_with(parity, tolerance))


# --- the report --------------------------------------------------------------------

_HEAD = (
    "| backend | against | frames | people both see | one alone | keypoints: median, 99 %, worst "
    "(px) | boxes (px) | scores | |"
)


def table(rows: Sequence[Row], skipped: Sequence[Skipped]) -> str:
    """Return the comparison as a table in Markdown."""
    lines = [_HEAD, "|---" * 9 + "|"]
    for row in rows:
        p = row.parity
        lines.append(
            f"| {row.name} | {row.against} | {p.frames} | {p.people} | {p.only_one} | "
            f"{p.median_px:.4f}, {p.p99_px:.4f}, {p.worst_px:.3f} | {p.worst_box_px:.3f} | "
            f"{p.worst_score:.1e} | {row.wrong or 'ok'} |"
        )
    lines += [f"| {s.name} | | | | | | | | left out: {s.reason} |" for s in skipped]
    return "\n".join(lines)


def _report(config: Config, rows: Sequence[Row], skipped: Sequence[Skipped], source: str) -> None:
    folder = report_dir(config)
    text = table(rows, skipped)
    for line in text.splitlines():
        logger.info("%s", line)
    value = {
        "frames_of": source,
        "rows": [asdict(row) for row in rows],
        "left_out": [asdict(one) for one in skipped],
        "ok": not any(row.wrong for row in rows) and not any(one.broken for one in skipped),
    }
    write_json(folder / "verify.json", folder, value)
    write_text(folder / "verify.md", folder, text + "\n")
    logger.info("the report is in %s", folder / "verify.md")


# --- the classifiers ---------------------------------------------------------------


def _verify_classifier(config: Config) -> int:
    """Compare a classifier's file with the checkpoints it was made of, by probabilities."""
    from deploy.export import (
        TOLERANCE,
        checkpoint_paths,
        largest_difference,
        made_samples,
        real_samples,
    )
    from recognizer.action.graphs import load_member

    service = config.deploy.model
    section = getattr(config.inference, service)
    path = find_classifier(section.model_path, [*config.models.weights_dirs, SHIPPED_MODELS])
    members = [load_member(checkpoint) for checkpoint in checkpoint_paths(config)]
    most = max(member.features.num_person for member in members)
    samples = [*real_samples(members), *made_samples(most)]
    largest = largest_difference(path, members, samples)
    ok = largest <= TOLERANCE
    logger.info(
        "%s against %s: %d samples, largest difference of a probability %.1e (at most %.0e): %s",
        path,
        ", ".join(str(one) for one in checkpoint_paths(config)),
        len(samples),
        largest,
        TOLERANCE,
        "ok" if ok else "too far apart",
    )
    value = {
        "file": path.name,
        "samples": len(samples),
        "largest": largest,
        "tolerance": TOLERANCE,
        "ok": ok,
    }
    folder = report_dir(config)
    write_json(folder / f"verify_{service}.json", folder, value)
    logger.info("the report is in %s", folder / f"verify_{service}.json")
    used = {f"inference.{service}.model_path": path}
    if ok:
        logger.info("next: %s", next_command(config, "inference.analysis", used))
    else:
        changes = {"deploy.output": path}
        logger.error("write the file again: %s", next_command(config, "deploy.export", changes))
    return EXIT_DONE if ok else EXIT_APART
