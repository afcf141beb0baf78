"""Copies of a stage's results in the compact form of samples/."""

from pathlib import Path

from recognizer.runs.manifest import Manifest, read_manifest, result_path, write_manifest
from recognizer.runs.progress import ProgressFactory, silent
from recognizer.storage.artifacts import read_poses, remove_stale_scratch, write_poses
from recognizer.storage.compact import ROUNDED_TO


def compact_results(source: Path, target: Path, progress: ProgressFactory = silent) -> Manifest:
    """Write every result of a finished stage 1 or 2 in the compact form, with its manifest.

    The settings of files and manifest say that they are rounded: what is made from them is
    never mistaken for results of the full ones. Results of other videos that ``target``
    still holds are removed.

    Args:
        source: the stage's folder.
        target: the folder to write.
        progress: shows the inputs.

    Returns:
        The manifest written.

    Raises:
        FileNotFoundError: the stage has not finished there.
        ArtifactError: a damaged result or manifest.
        ValueError: poses without a compact form, or one folder given as both.

    """
    if source.resolve() == target.resolve():
        raise ValueError(f"expected two folders, got {source} as source and as target")
    before = read_manifest(source)
    rounded = {"rounded_to": ROUNDED_TO}
    manifest = Manifest(before.stage, {**before.settings, **rounded}, before.outcomes)
    written = set()
    with progress(f"compact form of {target.name}: videos", len(before.outcomes)) as advance:
        for outcome in before.outcomes:
            if outcome.state != "refused":
                sequence, extra, meta = read_poses(result_path(source, outcome.video, ".npz"))
                final = result_path(target, outcome.video, ".npz")
                meta = {**meta, "settings": {**meta.get("settings", {}), **rounded}}
                write_poses(final, target, sequence, meta, extra, small=True)
                written.add(final)
            advance(outcome, outcome.frames)
    for path in target.rglob("*.npz"):
        if path not in written:
            path.unlink()
    write_manifest(target, manifest)
    remove_stale_scratch(target)
    return manifest
