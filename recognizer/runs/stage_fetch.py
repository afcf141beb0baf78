"""Results of a stage in object storage, fetched into a folder for modes that read files."""

import hashlib
import os
import shutil
from pathlib import Path

from recognizer.runs.manifest import exclusive, result_name, write_manifest
from recognizer.runs.progress import ProgressFactory, silent
from recognizer.runs.stage_run import read_stage
from recognizer.storage.artifacts import ArtifactError, atomic_path
from recognizer.storage.results import Listed, StoredResults


def fetch_stage(address: str, stage: str, folder: Path, progress: ProgressFactory = silent) -> Path:
    """Fetch a finished stage's results, those alone that are not in the folder yet.

    Args:
        address: of the stage's results.
        stage: ``stage1`` or ``stage2``, for messages.
        folder: where they go; a file with size and time of its object, and a digest of its ETag
            in the parts of a second, is that object.
        progress: shows the results.

    Returns:
        The folder, with the manifest of all videos.

    Raises:
        FileNotFoundError: the stage, or one of its shards, has not finished there.
        ArtifactError: a result that its manifest names is not there.
        BlockingIOError: another run is at work in the folder.
        OSError: the store cannot be used, or the folder cannot be written.

    """
    manifest = read_stage(address, stage)
    done = [o for o in manifest.outcomes if o.state != "refused"]
    names = {o.video: result_name(o.video, ".npz") for o in done}
    with exclusive(folder), progress(f"{stage}: results fetched", len(done)) as advance:
        results = StoredResults(address, folder)
        there = results.listed(names.values())
        for outcome in done:
            found = there(names[outcome.video])
            if found is None:
                raise ArtifactError(
                    f"expected a result at {address}/{names[outcome.video]}, as its manifest says, "
                    f"found none; run --mode annotation.{stage} again"
                )
            _fetch(results, names[outcome.video], found, folder)
            advance(outcome, 0)
        write_manifest(folder, manifest)
    return folder


def _fetch(results: StoredResults, name: str, found: Listed, folder: Path) -> None:
    final, size = folder / name, int(found.stamp.partition(" ")[0])
    # Stores give whole seconds: what is below them tells versions of one second apart.
    digest = int.from_bytes(hashlib.sha256(found.stamp.encode()).digest()[:8])
    time_ns = int(found.modified_s) * 10**9 + digest % 10**9
    if final.exists() and (final.stat().st_size, final.stat().st_mtime_ns) == (size, time_ns):
        return
    with results.local(name) as path, atomic_path(final, folder) as scratch:
        shutil.copyfile(path, scratch)
        os.utime(scratch, ns=(time_ns, time_ns))
