"""Find what would make stage 3 fail before hours of stage 1 have gone by."""

from collections import Counter

from annotation.inputs import list_videos
from annotation.labels import LabelError, label_from_folders, read_segments
from annotation.sources import find_sources
from annotation.workspace import negatives_manifest
from recognizer.config import Config
from recognizer.config_file import ConfigError


def check_labels(config: Config) -> None:
    """Check that the videos of ``annotation.input`` can be labelled and split.

    Raises:
        ConfigError: a table that cannot be used, a class that no video has, or a folder of
            ``dataset.negatives`` that no stage 2 has finished.
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
    for folder in dataset.negatives:
        negatives_manifest(folder)
