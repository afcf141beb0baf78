"""Mode annotation.from_reviews: what people decided about live events becomes training data.

    python main.py --mode annotation.from_reviews --config my.yaml

A false alarm becomes a sample of the normal class, a confirmed event one of its own class. The
result is a folder as stage 2's, with a table of labels and one of sources beside it. The database
is only read; live detection may run meanwhile.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from annotation.negatives_folders import normal_class
from annotation.review_tracks import ReviewExport, source_of
from annotation.reviews import ReviewRecord, outcomes_of, read_records, write_records
from recognizer.command import EXIT_DONE, EXIT_SOME_REFUSED, next_command
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.live.kept_poses import kept_settings
from recognizer.live.store_reads import list_decided
from recognizer.runs.manifest import (
    Manifest,
    Settings,
    exclusive,
    result_path,
    write_manifest,
)
from recognizer.runs.progress import ProgressFactory, silent
from recognizer.runs.stage_folders import LABELS, SOURCES, dataset_dir
from recognizer.storage.artifacts import short_digest

logger = logging.getLogger(__name__)

_NAMED = 5  # of many reasons, how many the log names


def from_reviews(config: Config, progress: ProgressFactory) -> int:
    """Write what was decided about live events as training data; return the exit code."""
    folder = run_from_reviews(config, progress)
    records = list(read_records(folder).values())
    states = Counter(record.state for record in records)
    labels = Counter(record.label for record in records if record.state == "done")
    classes = ", ".join(f"{labels[name]} {name}" for name in config.dataset.classes)
    logger.info(
        "%d events: %d done (%s), %d refused, %d skipped; tracks, labels and sources are in %s",
        len(records),
        states["done"],
        classes,
        states["refused"],
        states["skipped"],
        folder,
    )
    reasons = Counter(record.reason for record in records if record.state != "done")
    for reason, count in reasons.most_common(_NAMED):
        logger.info("%d x %s", count, reason)
    if states["done"]:
        together = {"dataset.also": [str(folder)]}
        logger.info(
            "next, beside the videos of annotation.input: %s",
            next_command(config, "annotation.stage3", together),
        )
    if all(labels[name] for name in config.dataset.classes):
        alone = {
            "annotation.stage2_dir": folder,
            "dataset.segments": folder / LABELS,
            "dataset.split.sources": folder / SOURCES,
        }
        logger.info("or alone: %s", next_command(config, "annotation.stage3", alone))
    return EXIT_SOME_REFUSED if states["refused"] else EXIT_DONE


def run_from_reviews(config: Config, progress: ProgressFactory = silent) -> Path:
    """Write tracks, labels and sources of the events that were decided.

    Events that the database no longer has stay as an earlier run left them.

    Returns:
        The folder, one for each service, its classes, and each set of networks and trackers.

    Raises:
        ConfigError: no database, no network file, or a normal class that is the event.
        StoreError: a database that cannot be read.
        ValueError: no event was reviewed.
        BlockingIOError: another run is at work in the folder.
        OSError: the folder cannot be written.

    """
    store = config.live.alerts.store.path
    if not store.is_file():
        raise ConfigError(
            f"live.alerts.store.path: expected the database of live detection, found none at "
            f"{store}; run --mode inference.realtime first, or name the config that it ran with"
        )
    normal_class(config.dataset)
    settings = _settings(config)
    # Other classes are another folder: they would refuse what this one holds, and remove it.
    digest = short_digest({**settings, "classes": dict(config.dataset.classes)})
    folder = dataset_dir(config) / "from_reviews" / f"{config.dataset.service}-{digest}"
    decided = list_decided(store)
    if not any(one.verdict for one in decided) and not read_records(folder):
        raise ValueError(
            f"{store}: expected events that were reviewed, found none among {len(decided)}; open "
            "the page of live detection and decide about some (keys c, f, u)"
        )
    with (
        exclusive(folder),
        progress("events of live detection", len(decided)) as advance,
    ):
        earlier = read_records(folder)
        records = {k: v for k, v in earlier.items() if _is_kept(folder, v)}
        events = {one.event.event_id: one.event for one in decided}
        export = ReviewExport(config, folder, settings)
        for one in decided:
            record = export.record(one, source_of(one.event, events))
            records[record.event_id] = record
            state = None if record.state == "skipped" else outcomes_of([record])[0]
            advance(state, record.frames)
        _write(folder, settings, list(records.values()))
        _remove_others(folder, earlier.values(), records)
    return folder


def _settings(config: Config) -> Settings:
    """Return all that decides the tracks: of live detection, and the scorers."""
    return {
        **kept_settings(config, movement=config.annotation.movement),
        "scoring": config.scoring.model_dump(mode="json"),
    }


def _is_kept(folder: Path, record: ReviewRecord) -> bool:
    """Tell whether an earlier run wrote an event's tracks, which outlast it in the database."""
    return record.state == "done" and result_path(folder, record.video, ".npz").is_file()


def _write(folder: Path, settings: Settings, records: Sequence[ReviewRecord]) -> None:
    records = sorted(records, key=lambda record: record.video)
    write_records(folder, records)
    write_manifest(folder, Manifest("stage2", settings, outcomes_of(records)))


def _remove_others(
    folder: Path, earlier: Iterable[ReviewRecord], records: Mapping[str, ReviewRecord]
) -> None:
    """Remove tracks that an earlier run wrote, of events that are done no longer."""
    for record in earlier:
        now = records.get(record.event_id)
        if record.state == "done" and (now is None or now.state != "done"):
            result_path(folder, record.video, ".npz").unlink(missing_ok=True)
