"""Check labels, sources and negatives before the hours of stage 1."""

import json
from collections import Counter
from pathlib import Path

from annotation.joined import read_joined
from annotation.negatives_folders import read_folders
from annotation.sources import find_sources
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.dataset.labels import LabelError, label_from_folders, read_segments
from recognizer.runs.inputs import list_videos
from recognizer.runs.manifest import Manifest, Settings
from recognizer.runs.stage_folders import stage1_settings, stage2_settings


def check_labels(config: Config) -> None:
    """Check that the videos of ``annotation.input`` can be labelled and split.

    Raises:
        ConfigError: a table that cannot be used, a class that no video has, or a folder of
            ``dataset.negatives`` that no stage 2 has finished, or one with other settings.
        FileNotFoundError, ValueError: no videos.

    """
    section, dataset = config.annotation, config.dataset
    videos = [video.relative for video in list_videos(section)]
    counts: Counter[str] = Counter()
    unlabelled: list[str] = []
    if dataset.segments is not None:
        partial = bool(section.include)
        table = read_segments(dataset.segments, dataset.classes, videos, partial=partial)
        counts.update(s.class_name for segments in table.values() for s in segments)
    else:
        for video in videos:
            try:
                counts[label_from_folders(video, dataset.classes)] += 1
            except LabelError as error:
                unlabelled.append(f"{video}: {error}")
    missing = [name for name in dataset.classes if not counts[name]]
    if missing:
        example = f"; for example {unlabelled[0]}" if unlabelled else ""
        raise ConfigError(
            f"dataset.classes: expected videos of every class, found none of {', '.join(missing)} "
            f"among {len(videos)} videos in {section.input}{example}"
        )
    find_sources(dataset.split, videos, {})
    own = section.stage2_dir if isinstance(section.stage2_dir, Path) else None
    if dataset.also:
        read_joined(dataset, own, None)
        read_joined(dataset, own, _settings_to_be(config))
    if dataset.negatives:  # without settings first: these may need a missing network file
        read_folders(dataset, own, None)
        read_folders(dataset, own, _settings_to_be(config))


def _settings_to_be(config: Config) -> Settings | None:
    """Return the settings of stage 2 as its manifest will hold them; None if stage 1 will fail."""
    try:
        stage1 = Manifest("stage1", stage1_settings(config), ())
        settings = stage2_settings(config, stage1)
    except (ConfigError, OSError):
        return None
    value: Settings = json.loads(json.dumps(settings))
    return value
