"""Mode annotation.visualize: overlay videos of a stage's results.

``output/<dataset>/visualize/<stage folder>[-skeleton]/<path of the video>.mp4``: the
source video with skeletons, boxes, ids and involvement, or the same on black, which
needs no source video and shows no face.
"""

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

from recognizer.config.schema import Config
from recognizer.draw import draw_caption, draw_people
from recognizer.runs.inputs import video_path
from recognizer.runs.manifest import (
    Manifest,
    Outcome,
    Progress,
    Settings,
    exclusive,
    result_path,
    write_manifest,
)
from recognizer.runs.overlays import (
    SourceVideoError,
    black_pictures,
    check_source,
    pictures_of,
    write_frames,
)
from recognizer.runs.shards import stage_manifest
from recognizer.runs.stage_folders import dataset_dir, stage1_dir, stage2_dir
from recognizer.runs.stills import sample_fps_of
from recognizer.scoring.ranking import rank_people
from recognizer.sequences import evenly_spaced
from recognizer.storage.artifacts import (
    ArtifactError,
    json_bytes,
    read_poses,
    write_json,
)
from recognizer.types import ImageArray, PoseSequence
from recognizer.video.reader import VideoError

_SETTINGS = "settings.json"
_LEGEND = "box: id, involvement; dashed: interpolated; grey: no track"
_LEGEND_WIDTH_PX = 320  # in a narrower picture it would leave no room for the rest


def visualize(config: Config, advance: Progress | None = None) -> Path:
    """Draw the results of ``visualize.stage`` and return the folder of the overlays.

    Finished overlays are kept, unless they were made with other settings. A video whose source is
    missing or whose result cannot be read is recorded in ``manifest.json`` as refused. With
    ``visualize.limit`` that many videos are chosen evenly from the whole list.

    Raises:
        FileNotFoundError: the stage has not finished.
        OSError: an overlay cannot be written (full disk, no permission); names its path.

    """
    stage_dir = stage1_dir(config) if config.visualize.stage == "stage1" else stage2_dir(config)
    stage = stage_manifest(stage_dir, config.visualize.stage)
    folder = dataset_dir(config) / "visualize" / _folder_name(config, stage_dir)
    settings = _settings(config, stage)
    # Spread over the list, so that all classes show.
    chosen = evenly_spaced(stage.outcomes, config.visualize.limit)
    outcomes = []
    with exclusive(folder):
        _drop_other_settings(folder, settings, stage.outcomes)
        for entry in chosen:
            outcome = _one(config, stage_dir, folder, entry, advance)
            outcomes.append(outcome)
            if advance is not None:
                advance(outcome, 0)
        write_manifest(folder, Manifest("visualize", settings, tuple(outcomes)))
    return folder


def _folder_name(config: Config, stage_dir: Path) -> str:
    return stage_dir.name + ("-skeleton" if config.visualize.skeleton_only else "")


def _settings(config: Config, stage: Manifest) -> Settings:
    return {
        "visualize": config.visualize.model_dump(mode="json", exclude={"limit"}),
        "service": config.dataset.service,
        "scoring": config.scoring.model_dump(mode="json"),
        config.visualize.stage: stage.settings,
    }


def _drop_other_settings(folder: Path, settings: Settings, outcomes: tuple[Outcome, ...]) -> None:
    """Remove overlays made with other settings, so that a folder holds overlays of one kind."""
    path = folder / _SETTINGS
    if path.is_file() and path.read_bytes() == json_bytes(settings):
        return
    for outcome in outcomes:
        result_path(folder, outcome.video, ".mp4").unlink(missing_ok=True)
    write_json(path, folder, settings)


def _one(
    config: Config, stage_dir: Path, folder: Path, entry: Outcome, advance: Progress | None
) -> Outcome:
    """Draw one video unless that is done, and return its end state."""
    if entry.state == "refused":
        return Outcome(entry.video, "refused", f"no result to draw: {entry.reason}")
    result = result_path(stage_dir, entry.video, ".npz")
    if _is_current(result_path(folder, entry.video, ".mp4"), result):
        return Outcome(entry.video, "done", frames=entry.frames, notes=entry.notes)
    try:
        sequence, _, meta = read_poses(result)
    except (ArtifactError, OSError) as error:
        return Outcome(entry.video, "refused", _without_folder(error, result, entry.video))
    source = Path(entry.video)
    try:
        if config.visualize.skeleton_only:
            pictures = black_pictures(sequence)
        else:
            source = video_path(config.annotation, entry.video)
            check_source(source, meta)
            pictures = pictures_of(source, sequence, sample_fps_of(meta.get("settings", {})))
        _write(config, sequence, pictures, folder, entry.video, advance)
    except (SourceVideoError, VideoError) as error:
        return Outcome(entry.video, "refused", _without_folder(error, source, entry.video))
    return Outcome(entry.video, "done", frames=len(sequence), notes=entry.notes)


def _is_current(final: Path, result: Path) -> bool:
    """Tell whether the overlay exists and is not older than the result."""
    try:
        return final.stat().st_mtime_ns >= result.stat().st_mtime_ns
    except OSError:
        return False


def _without_folder(error: Exception, path: Path, name: str) -> str:
    """Return an error's text without this machine's folders, so that manifests compare."""
    return str(error).replace(str(path), name)


def _write(
    config: Config,
    sequence: PoseSequence,
    pictures: Iterator[ImageArray],
    folder: Path,
    video: str,
    advance: Progress | None,
) -> None:
    """Write the overlay of one video under its final name, or nothing."""
    final = result_path(folder, video, ".mp4")
    involvement: dict[int, float] | None = None
    if config.visualize.stage == "stage2":
        involvement = rank_people(sequence, config.dataset.service, config.scoring).by_id()
    frames = _overlays(sequence, pictures, involvement, video)
    on_frames = (lambda n: advance(None, n)) if advance is not None else (lambda n: None)
    write_frames(final, folder, frames, sequence.frame_period_s, config.visualize.crf, on_frames)


def _overlays(
    sequence: PoseSequence,
    pictures: Iterator[ImageArray],
    involvement: Mapping[int, float] | None,
    video: str,
) -> Generator[tuple[ImageArray, float]]:
    """Yield every frame of the result, drawn, with its time in seconds."""
    for t, image in enumerate(pictures):
        time_s = float(sequence.time_s[t])
        caption = f"{video}  {time_s:.2f} s"
        if sequence.corrupt[t]:  # first: where the picture is narrow, the name is shortened
            caption = f"damaged frame  {caption}"
        drawn = draw_people(image, sequence.frame(t), involvement)
        if involvement is not None and image.shape[1] >= _LEGEND_WIDTH_PX:
            drawn = draw_caption(drawn, _LEGEND, line=1)
        yield draw_caption(drawn, caption), time_s
