"""Mode inference.analysis: new video -> poses and tracks once -> events of both services.

It writes ``<output_dir>/videos/<path of the video>.json`` and ``.mp4``, ``summary.csv``,
``evaluation/`` where labels are known, and ``manifest.json`` with one end state for every input.
Stages 1 and 2 write poses and tracks below ``work/``. Finished results are kept: a new threshold
runs no network, a new classifier no pose network.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recognizer.analysis.evaluate import (
    Evaluation,
    GroundTruth,
    read_ground_truth,
    remove_evaluations,
    summarise,
    write_evaluation,
)
from recognizer.analysis.record import Record, read_record
from recognizer.analysis.services import (
    classifier_path,
    describe_classifier,
    event_rules,
    open_classifier,
)
from recognizer.analysis.summary import (
    SUMMARY,
    Rows,
    VideoSummary,
    event_lines,
    other_rule,
    pose_only_lines,
    summary_rows,
    write_summary,
)
from recognizer.analysis.video import (
    VIDEOS,
    AnalysisPlan,
    Input,
    VideoWorker,
    decisive_settings,
    finished,
    input_stamp,
    overlay_path,
    record_path,
    remove_results,
)
from recognizer.analysis.zones import unseen_zones
from recognizer.command import EXIT_DONE, EXIT_SOME_REFUSED, next_command
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.runs.batch import WorkerPaths, run_batch, worker_count, worker_pool
from recognizer.runs.inputs import Video, list_videos
from recognizer.runs.journal import open_journal
from recognizer.runs.manifest import (
    MANIFEST,
    Manifest,
    Outcome,
)
from recognizer.runs.progress import ProgressFactory
from recognizer.runs.shards import (
    Shard,
    exclusive_run,
    finish_run,
    other_roots,
    shard_of,
    stage_manifest,
)
from recognizer.runs.stage1 import run_stage1
from recognizer.runs.stage2 import run_stage2
from recognizer.runs.worker_pool import Job
from recognizer.scoring.ranking import Service

logger = logging.getLogger(__name__)

_WORK = "work"


def analyse(config: Config, progress: ProgressFactory) -> int:
    """Analyse every video of ``inference.input`` and return the exit code.

    Raises:
        ConfigError: no classifier, a setting or table that cannot be used; before any work.
        FileNotFoundError, ValueError: no videos.
        RunError: a network does not load, or results cannot be written.

    """
    services = _services(config)
    config = _pointed_at_input(config)
    videos = _videos(config)
    files = {service: classifier_path(config, service) for service in services}
    classifiers, rules = _describe_classifiers(config, files)
    names = [video.relative for video in videos]
    for text in unseen_zones(config.inference.zones, names):
        logger.warning("%s", text)
    truth = read_ground_truth(config, {s: classifiers[s]["classes"] for s in services}, names)
    folder, shard = config.inference.output_dir, shard_of(config.annotation)
    with exclusive_run(folder, shard) as root:
        poses = run_stage1(config, progress)
        tracks = run_stage2(config, progress)
        made_from = {"poses": poses.name, "tracks": tracks.name}
        plan = AnalysisPlan(config, folder, root, tracks, made_from, files, classifiers, rules)
        outcomes = _analyse_videos(plan, videos, progress)
        if shard is not None:
            finish_run(folder, shard, _manifest(plan, outcomes))
            return _report_shard(config, shard, outcomes)
        summaries = _conclude(plan, outcomes, truth)
    return _report(config, plan, outcomes, summaries)


def _services(config: Config) -> tuple[Service, ...]:
    services = config.inference.services
    if not services or len(set(services)) != len(services):
        raise ConfigError(
            f"inference.services: expected fight, falldown or both, each once, got {services}"
        )
    return tuple(services)


def _pointed_at_input(config: Config) -> Config:
    """Return the config with stages 1 and 2 pointed at the input and the analysis's folder.

    Raises:
        ConfigError: the output folder holds the input, so that results would become inputs.

    """
    section = config.inference
    output = section.output_dir.resolve()
    source = section.input.resolve() if isinstance(section.input, Path) else None
    if source is not None and output in (source, *source.parents):
        raise ConfigError(
            f"inference.output_dir: expected a folder that does not hold inference.input "
            f"({section.input}), got {section.output_dir}; results would be taken for videos"
        )
    annotation: dict[str, object] = {
        "input": section.input,
        "dataset": _WORK,
        "output_dir": section.output_dir,
        "include": [],
        "stage1_dir": None,
        "stage2_dir": None,
    }
    return config.model_copy(update={"annotation": config.annotation.model_copy(update=annotation)})


def _videos(config: Config) -> list[Video]:
    try:
        return list_videos(config.annotation)
    except (OSError, ValueError) as error:
        raise type(error)(str(error).replace("annotation.input", "inference.input")) from error


def _describe_classifiers(
    config: Config, files: dict[Service, Path]
) -> tuple[dict[Service, dict[str, Any]], dict[Service, dict[str, float]]]:
    """Open every classifier once, so that a bad file is refused before hours of work."""
    classifiers, rules = {}, {}
    for service, path in files.items():
        classifier = open_classifier(config, service, path)
        classifiers[service] = describe_classifier(config, classifier)
        rules[service] = event_rules(config, classifier)
    return classifiers, rules


def _analyse_videos(
    plan: AnalysisPlan, videos: list[Video], progress: ProgressFactory
) -> tuple[Outcome, ...]:
    """Bring every video to its end state and write the manifest."""
    section, by_name = plan.config.annotation, {v.relative: v for v in videos}
    shard = shard_of(section)
    tracked = stage_manifest(plan.tracks, "stage2", shard).outcomes
    stamps = {before.video: input_stamp(plan, before) for before in tracked}
    others = other_roots(plan.folder, shard)
    with (
        open_journal(plan.root, decisive_settings(plan), others) as journal,
        progress("analysis: videos", len(tracked)) as advance,
    ):
        settled, jobs = [], []
        for before in tracked:
            if before.state == "refused":
                settled.append(before)
            elif (done := finished(plan, before, stamps[before.video], journal)) is not None:
                settled.append(done)
            else:
                jobs.append(Job(before.video, Input(before, by_name[before.video])))
        jobs.sort(key=lambda job: -job.payload.before.frames)  # no long tail at the end
        arguments = [(plan,)] * worker_count(section)
        reads = (section.input, plan.tracks)
        shared = WorkerPaths(plan.folder, reads, tuple(plan.files.values()))
        pool = worker_pool(section, VideoWorker, arguments, shared)
        return run_batch(settled, jobs, pool, journal.recording(advance, stamps))


def _conclude(
    plan: AnalysisPlan, outcomes: tuple[Outcome, ...], truth: dict[str, GroundTruth]
) -> list[VideoSummary]:
    """Write the summary, the evaluations where labels are known, and last the manifest.

    Returns:
        The summary of each video that was not refused, by name.

    """
    services = list(plan.files)
    evaluations = {
        service: Evaluation(
            plan.classifiers[service]["classes"], truth[service], plan.rules[service]
        )
        for service in services
        if service in truth
    }
    rows: Rows = []
    summaries = []
    for outcome in sorted(outcomes, key=lambda o: o.video):
        record = _record_of(plan, outcome)
        rows += summary_rows(outcome, record, services)
        if record is not None:
            hidden = plan.config.visualize.skeleton_only
            overlay = overlay_path(plan.folder, record.video, skeleton_only=hidden)
            summaries.append(VideoSummary.of(record, overlay))
            for service, evaluation in evaluations.items():
                evaluation.add(record, service)
    write_summary(plan.folder, rows)
    analysed = [one.video for one in summaries]
    remove_evaluations(plan.folder)
    for service, evaluation in evaluations.items():
        report = write_evaluation(plan.config, plan.folder, service, evaluation, analysed)
        for problem in evaluation.problems:
            logger.warning("labels of %s: %s", service, problem)
        for line in summarise(service, report):
            logger.info("%s", line)
    finish_run(plan.folder, None, _manifest(plan, outcomes))
    return summaries


def _manifest(plan: AnalysisPlan, outcomes: tuple[Outcome, ...]) -> Manifest:
    settings = {
        "made_from": plan.made_from,
        "services": {s: {**plan.classifiers[s], **plan.rules[s]} for s in plan.files},
    }
    return Manifest("analysis", settings, outcomes)


def _report_shard(config: Config, shard: Shard, outcomes: tuple[Outcome, ...]) -> int:
    """Log the end states of a shard, which has no summary, and return the exit code."""
    counts = Counter(outcome.state for outcome in outcomes)
    text = ", ".join(f"{counts[state]} {state}" for state in ("done", "damaged", "refused"))
    path = config.inference.output_dir / shard.manifest
    logger.info("analysis, shard %s: %d inputs: %s; see %s", shard, len(outcomes), text, path)
    again = next_command(config, "inference.analysis", without=("annotation.shard",))
    logger.info("next, after the last shard, for the table and the evaluation: %s", again)
    return EXIT_SOME_REFUSED if counts["refused"] else EXIT_DONE


def _record_of(plan: AnalysisPlan, outcome: Outcome) -> Record | None:
    if outcome.state == "refused":
        remove_results(plan.folder, outcome.video)  # an earlier record is out of date
        return None
    return read_record(record_path(plan.folder, outcome.video))


def _report(
    config: Config, plan: AnalysisPlan, outcomes: tuple[Outcome, ...], summaries: list[VideoSummary]
) -> int:
    folder = plan.folder
    rules: dict[str, dict[str, float]] = {s: plan.rules[s] for s in plan.files}
    counts = Counter(outcome.state for outcome in outcomes)
    text = ", ".join(f"{counts[state]} {state}" for state in ("done", "damaged", "refused"))
    logger.info("analysis: %d inputs: %s; see %s", len(outcomes), text, folder / MANIFEST)
    for line in pose_only_lines(summaries):
        logger.warning("%s", line)
    for line in event_lines(summaries, rules):
        logger.info("%s", line)
    drawn = [one for one in summaries if one.overlay is not None]
    if drawn:
        first = max(drawn, key=_most_probable)
        logger.info(
            "overlays: %d videos below %s, such as %s", len(drawn), folder / VIDEOS, first.overlay
        )
    logger.info(
        "table: %s; details of each video below %s, as .json", folder / SUMMARY, folder / VIDEOS
    )
    logger.info("next: %s", _next(config, summaries, rules))
    return EXIT_SOME_REFUSED if counts["refused"] else EXIT_DONE


def _most_probable(video: VideoSummary) -> float:
    peaks = [event.peak_probability for events in video.events.values() for event in events]
    return max(peaks, default=0.0)


def _next(
    config: Config, summaries: list[VideoSummary], rules: Mapping[str, Mapping[str, float]]
) -> str:
    look = "see the overlays" if any(one.overlay for one in summaries) else f"see {SUMMARY}"
    if (other := other_rule(summaries, rules)) is None:
        return look
    text, changes = other
    again = next_command(config, "inference.analysis", changes)
    return f"{look}; {text}; without asking a network again: {again}"
