"""Run the same frames through every backend that is here and compare the results.

``deploy.model: pose``: keypoints in pixels, scores, boxes and people of each backend against the
most exact one (torch, else ONNX Runtime on the CPU); and, where ``onnx.model_input_size`` is
another shape than the network was trained with, that shape against the trained one. ``fight`` and
``falldown``: probabilities of the ONNX classifier against the checkpoints it was made of.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from deploy.backends import CANNOT_OPEN, Candidate, Skipped, candidates, frames, report_dir
from deploy.outputs import write_report
from deploy.pose_parity import Parity, compare
from recognizer.action.classifier import find_classifier
from recognizer.backends.metadata import PoseModelMetadata
from recognizer.backends.network import NonFiniteOutputError
from recognizer.backends.onnx_files import read_metadata
from recognizer.command import EXIT_DONE, next_command
from recognizer.config.action import DeployConfig
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.installation import cpu_cores
from recognizer.runs.progress import ProgressFactory
from recognizer.storage.artifacts import write_json
from recognizer.types import Image, Poses

logger = logging.getLogger(__name__)

EXIT_APART = 1
# How far above the threshold a person may be missed: rounding moves scores by so much.
_EDGES = {"fp32": 1e-3, "bf16": 0.05, "fp16": 0.02, "int8": 0.1}
_RECTANGLE_EDGE = 0.02


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Limits of a comparison.

    Attributes:
        median_px: median distance of keypoints, image pixels.
        worst_px: largest distance of a keypoint; None: any distance.
        missed: share of the people that only one of the two may detect.
        edge: a person scored at most this above the threshold is not counted as missed.

    """

    median_px: float
    worst_px: float | None
    missed: float
    edge: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """One backend against another: a line of the table.

    Attributes:
        name: the backend.
        against: the one it is compared with.
        parity: their differences.
        tolerance: the limits.
        wrong: what is over them; empty: nothing.

    """

    name: str
    against: str
    parity: Parity
    tolerance: Tolerance
    wrong: str


def verify(config: Config, progress: ProgressFactory) -> int:
    """Compare every backend that is here (``--mode deploy.verify``); return the exit code.

    Args:
        config: the whole config.
        progress: not used; this mode logs.

    Returns:
        0; 1 where something is over its tolerance or not finite, or no person was detected.

    Raises:
        ConfigError: nothing to compare with, or no checkpoint to compare a classifier with.
        FileNotFoundError, ModelError: a file that is not there or cannot be used.

    """
    if config.deploy.model != "pose":
        return _verify_classifier(config)
    available, skipped = candidates(config)
    pictures, source = frames(config)
    logger.info("comparing %d backends on %d frames of %s", len(available), len(pictures), source)
    results, missing = run_backends(available, pictures)
    skipped += missing
    rows = [
        *compare_all(config, available, results),
        *compare_rectangle(config, available, pictures, results),
    ]
    broken = [one.name for one in skipped if one.broken]
    if not rows and not broken:
        raise ConfigError(
            "deploy.verify: expected two backends or more to compare, got "
            f"{', '.join(results) or 'none'}; "
            + "; ".join(f"{s.name}: {s.reason}" for s in skipped)
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
        names = ", ".join(wrong)
        logger.error(
            "%d of %d comparisons are over their tolerance: %s", len(wrong), len(rows), names
        )
        return EXIT_APART
    if len(results) == 1:
        logger.warning("one backend is here: it was compared with itself, at another input shape")
    logger.info("all %d comparisons are within their tolerance", len(rows))
    logger.info("next: %s", next_command(config, "deploy.benchmark"))
    return EXIT_DONE


def run_backends(
    available: Sequence[Candidate], pictures: Sequence[Image]
) -> tuple[dict[str, list[Poses]], list[Skipped]]:
    """Return each backend's poses by frame, and the backends that cannot run here."""
    results: dict[str, list[Poses]] = {}
    skipped = []
    for candidate in available:
        start = time.monotonic()
        try:
            model = candidate.open(cpu_cores())
            results[candidate.name] = [poses for image in pictures for poses in model([image])]
        except CANNOT_OPEN as error:
            broken = isinstance(error, NonFiniteOutputError)
            skipped.append(Skipped(candidate.name, str(error), broken))
            logger.warning("%s: left out: %s", candidate.name, error)
            continue
        logger.info("%s: done in %.1f s", candidate.name, time.monotonic() - start)
    return results, skipped


def compare_all(
    config: Config, available: Sequence[Candidate], results: dict[str, list[Poses]]
) -> list[Comparison]:
    """Return a comparison of every backend with the most exact one."""
    took_part = [candidate for candidate in available if candidate.name in results]
    exact = [candidate for candidate in took_part if candidate.precision == "fp32"]
    if not exact:
        return []
    reference = exact[0]
    threshold = _threshold(reference)
    return [
        _row(c.name, reference.name, results, threshold, tolerance_of(config.deploy, c.precision))
        for c in took_part
        if c is not reference
    ]


def compare_rectangle(
    config: Config,
    available: Sequence[Candidate],
    pictures: Sequence[Image],
    results: dict[str, list[Poses]],
) -> list[Comparison]:
    """Compare an input of another shape with the trained square; no row where it is the same.

    The picture is of the same size with less grey below it, so that people and keypoints should
    hardly move.
    """
    ran = (c for c in available if c.name in results and c.settings.inference_mode == "onnx")
    ours = next(ran, None)
    if ours is None or ours.settings.kind != "rtmo":
        return []
    shape, trained = _shapes(config, ours)
    if shape is None or trained is None:
        return []
    block = ours.settings.onnx.model_copy(update={"model_input_size": trained})
    square = Candidate(
        f"{ours.name} {trained[0]}x{trained[1]}",
        ours.settings.model_copy(update={"onnx": block}),
        ours.files,
        ours.precision,
    )
    by_square, missing = run_backends([square], pictures)
    if missing and missing[0].broken:
        raise NonFiniteOutputError(f"{square.name}: {missing[0].reason}")
    if missing:
        logger.warning("%s: no check of the shape: %s", square.name, missing[0].reason)
        return []
    name = f"{ours.name} {shape}"
    both = {name: results[ours.name], **by_square}
    section = config.deploy
    tolerance = Tolerance(
        section.rectangle_tolerance_px, None, section.tolerance_missed, _RECTANGLE_EDGE
    )
    return [_row(name, square.name, both, _threshold(ours), tolerance)]


def _shapes(config: Config, ours: Candidate) -> tuple[str | None, tuple[int, int] | None]:
    """Return a name for the input's shape, None where it is the trained one, and the latter."""
    size = config.models.pose_estimation.onnx.model_input_size
    metadata = PoseModelMetadata.of(read_metadata(ours.files["pose"]))
    if size is None:
        if metadata is None or not metadata.follows_picture:
            return None, None
        return "shape of the picture", metadata.input_size
    trained = (max(size), max(size)) if metadata is None else metadata.input_size
    return (None if tuple(size) == trained else f"{size[0]}x{size[1]}"), trained


def tolerance_of(section: DeployConfig, precision: str) -> Tolerance:
    """Return the limits of a backend of this precision against one in single precision."""
    edge = _EDGES[precision]
    if precision == "fp32":
        return Tolerance(section.tolerance_px, section.worst_px, 0.0, edge)
    limit = section.int8_tolerance_px if precision == "int8" else section.fp16_tolerance_px
    return Tolerance(limit, None, section.tolerance_missed, edge)


def over_tolerance(parity: Parity, tolerance: Tolerance) -> str:
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
    if settings.kind == "topdown":  # the detector finds its people
        return settings.topdown.detector.score_threshold
    return float(getattr(settings, settings.inference_mode).score_threshold)


def _row(
    name: str, against: str, results: dict[str, list[Poses]], threshold: float, tolerance: Tolerance
) -> Comparison:
    parity = compare(results[against], results[name], threshold=threshold, edge=tolerance.edge)
    return Comparison(name, against, parity, tolerance, over_tolerance(parity, tolerance))


# --- the report --------------------------------------------------------------------

_HEAD = (
    "| backend | against | frames | people both see | one alone | keypoints: median, 99 %, worst "
    "(px) | boxes (px) | scores | |"
)


def table(rows: Sequence[Comparison], skipped: Sequence[Skipped]) -> str:
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


def _report(
    config: Config, rows: Sequence[Comparison], skipped: Sequence[Skipped], source: str
) -> None:
    text = table(rows, skipped)
    value = {
        "frames_of": source,
        "rows": [asdict(row) for row in rows],
        "left_out": [asdict(one) for one in skipped],
        "ok": not any(row.wrong for row in rows) and not any(one.broken for one in skipped),
    }
    write_report(report_dir(config) / "verify", value, text)


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
    from recognizer.action.onnx_export import load_member

    service = config.deploy.model
    section = getattr(config.inference, service)
    path = find_classifier(section.model_path, config.models.folders())
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
    if ok:
        changes = {f"inference.{service}.model_path": path}
        logger.info("next: %s", next_command(config, "inference.analysis", changes))
    else:
        changes = {"deploy.output": path}
        logger.error("write the file again: %s", next_command(config, "deploy.export", changes))
    return EXIT_DONE if ok else EXIT_APART
