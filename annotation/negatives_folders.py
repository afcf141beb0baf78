"""Check the folders of ``dataset.negatives`` before any of their videos is read."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from recognizer.config.file import ConfigError
from recognizer.config.schema import DatasetConfig
from recognizer.runs.manifest import Manifest, Settings, read_manifest
from recognizer.runs.stage_folders import negatives_manifest
from recognizer.storage.artifacts import ArtifactError

_EVENTS = {  # names of the event class of each service, letters alone
    "fight": {"fight", "fights", "fighting", "violence", "violent"},
    "falldown": {"falldown", "falldowns", "fall", "falls", "falling", "fallen"},
}
ROUNDING = 0.01  # of a window: the median clip of 2 s lasts 2.002 s
_NAMED = 5  # of many equal faults, how many a message names


def normal_class(section: DatasetConfig) -> str:
    """Return the class of negatives, that of label 0.

    Raises:
        ConfigError: it is the event of ``dataset.service``.

    """
    normal = min(section.classes, key=lambda name: section.classes[name])
    if "".join(filter(str.isalpha, normal.casefold())) in _EVENTS[section.service]:
        raise ConfigError(
            f"dataset.classes: expected the normal class under label 0, of which the windows of "
            f"dataset.negatives are made samples, got {normal!r}, what {section.service} looks "
            "for; exchange the labels, or leave dataset.negatives empty"
        )
    return normal


def windows_per_video(section: DatasetConfig, window_s: float) -> int:
    """Return how many windows of a video ``dataset.negatives_s`` allows.

    Raises:
        ConfigError: none.

    """
    most = int(section.negatives_s / window_s + ROUNDING)
    if not most:
        raise ConfigError(
            f"dataset.negatives_s: expected at least the length of a window ({window_s:g} s, "
            f"{'the median clip' if section.window_s is None else 'dataset.window_s'}), got "
            f"{section.negatives_s:g}"
        )
    return most


def read_folders(
    section: DatasetConfig, data: Path | None, settings: Settings | None
) -> dict[Path, Manifest]:
    """Return the manifests of ``dataset.negatives``, before any video is read.

    Args:
        section: names the folders of stage 2.
        data: the folder of the data set's tracks, None if not known yet.
        settings: of these tracks, None if not known yet.

    Raises:
        ConfigError: a folder that is no stage 2, was made with other settings or is damaged.

    """
    if not section.negatives:
        return {}
    normal_class(section)
    if section.window_s is not None:
        windows_per_video(section, section.window_s)
    _check_places(section.negatives, data)
    return {path: _read(path, settings) for path in section.negatives}


def combined_digest(digests: Sequence[str]) -> str:
    """Return one digest of several; a single one is returned unchanged."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _check_places(folders: Sequence[Path], data: Path | None) -> None:
    seen = {} if data is None else {data.resolve(): "the data set's own tracks"}
    for path in folders:
        negatives_manifest(path)
        if known := seen.get(path.resolve()):
            raise ConfigError(
                f"dataset.negatives: expected other footage than the data set's, each folder once, "
                f"got {path}: {known}; leave it out"
            )
        seen[path.resolve()] = "named twice"


def _read(path: Path, expected: Settings | None) -> Manifest:
    """Return a folder's manifest; refuse another stage, other settings and nothing in it."""
    try:
        manifest = read_manifest(path, "stage2")
    except (ArtifactError, OSError) as error:
        raise ConfigError(
            f"dataset.negatives: expected the folder of a finished stage 2: {error}; run --mode "
            "annotation.stage2 on that footage again"
        ) from error
    if manifest.stage != "stage2":
        raise ConfigError(
            f"dataset.negatives: expected the folder of a stage 2 (tracks), got one of "
            f"{manifest.stage}: {path}; name the folder that --mode annotation.stage2 writes"
        )
    if expected is not None:
        _check_settings(path, manifest.settings, expected)
    if not any(outcome.state != "refused" for outcome in manifest.outcomes):
        raise ConfigError(
            f"dataset.negatives: expected tracked videos in {path}, found none "
            f"({len(manifest.outcomes)} refused); leave the folder out"
        )
    return manifest


def _check_settings(path: Path, made: Settings, expected: Settings) -> None:
    ours, theirs = ({k: v for k, v in s.items() if k != "scoring"} for s in (made, expected))
    if differ := list(differences(ours, theirs)):
        shown = "; ".join(f"{key}: {a!r:.80} instead of {b!r:.80}" for key, a, b in differ[:_NAMED])
        raise ConfigError(
            f"dataset.negatives: expected poses and tracks made as the data set's, or the network "
            f"learns to tell the settings apart, got others in {path}: {shown}; run stages 1 and 2 "
            "on that footage with this config"
        )


def differences(one: object, other: object, key: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield where two trees of settings differ: the key and both values, None if missing."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in sorted(one.keys() | other.keys()):
            yield from differences(one.get(name), other.get(name), f"{key}.{name}".lstrip("."))
    elif one != other:
        yield key, one, other
