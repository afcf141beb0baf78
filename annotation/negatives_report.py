"""What ``metadata.json`` and the report's page say of negatives."""

from collections.abc import Mapping
from typing import Any

from annotation.negatives import NegativeFolder, Negatives
from recognizer.config.schema import DatasetConfig


def describe_negatives(negatives: Negatives, section: DatasetConfig) -> dict[str, Any]:
    """Return what ``metadata.json`` says of them: folders with counts, and each sample."""
    return {
        "class": negatives.class_name,
        "window_s": negatives.window_s,
        "max_s_per_video": section.negatives_s,
        "folders": [_folder_facts(folder) for folder in negatives.folders],
        "samples": {
            clip.name: {
                "video": clip.video,
                "start_s": clip.start_s,
                "stop_s": clip.stop_s,
                "class": clip.class_name,
                "label": section.classes[clip.class_name],
                "split": "train",
                "source": folder.source_of[clip.video],
                "people": len(clip.track_ids),
                "track_ids": list(clip.track_ids),
                "frames": clip.frames,
                "size_wh": list(video.size_wh),
                "fps": video.fps,
            }
            for folder in negatives.folders
            for video in folder.found
            for clip in video.clips
        },
    }


def _folder_facts(folder: NegativeFolder) -> dict[str, Any]:
    used = [video.outcome.video for video in folder.found if video.clips]
    return {
        "folder": folder.name,
        "manifest_sha256": folder.sha256,
        "videos": len(folder.found),
        "videos_used": len(used),
        "sources": sorted({folder.source_of[video] for video in used}),
        "windows_with_people": folder.windows,
        "samples": len(folder.clips),
        "left_out": {
            video.outcome.video: video.outcome.reason for video in folder.found if not video.clips
        },
        "unreadable": {
            video.outcome.video: video.outcome.reason for video in folder.found if video.unreadable
        },
    }


def negatives_by_class(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of negatives by class, empty without any."""
    value = metadata.get("negatives")
    return {} if value is None else {value["class"]: len(value["samples"])}


def plus_negatives(count: int) -> str:
    """Return the text that goes behind a number of samples, none without negatives."""
    return f" + {count} negatives" if count else ""


def unreadable_negatives(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return why which results of stage 2 could not be read, by folder and video."""
    return {
        f"{folder['folder']}: {video}": reason
        for folder in metadata.get("negatives", {}).get("folders", ())
        for video, reason in folder.get("unreadable", {}).items()
    }


def negatives_lines(value: Mapping[str, Any] | None) -> list[str]:
    """Return the lines of the report's page, none without negatives."""
    if value is None:
        return []
    lines = [
        f"Negatives, learnt from as {value['class']} in train alone (windows of "
        f"{value['window_s']:g} s, at most {value['max_s_per_video']:g} s of a video):"
    ]
    return [
        "",
        *lines,
        *(
            f"- {one['folder']}: {one['samples']} samples of {one['videos_used']} of "
            f"{one['videos']} videos, {one['windows_with_people']} windows with people"
            for one in value["folders"]
        ),
    ]
