"""Shards: one list of videos split among drivers, each with its own lock, scratch and manifest.

A video belongs to a shard by the SHA-256 of its name, so that restarts and videos added later
change no other video's shard. The sizes of 16 shards of 100,000 videos have a standard deviation of
about 1 %.

    <stage folder>/manifest-03-of-16.json     end states of a finished shard
    <stage folder>/.shards/03-of-16/          its lock, scratch files and journal

A run without a shard finds the results of all, writes ``manifest.json`` and removes the shards'
manifests, so that one which exists is newer than ``manifest.json``.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from recognizer.config.file import ConfigError
from recognizer.config.schema import AnnotationConfig, Config
from recognizer.runs.manifest import (
    MANIFEST,
    Manifest,
    Outcome,
    exclusive,
    lock_folder,
    outcomes_before,
    read_manifest,
    read_manifest_file,
    write_manifest,
)
from recognizer.storage.artifacts import ArtifactError, remove_stale_scratch

SHARDS_FOLDER = ".shards"
_NAME = re.compile(r"(\d+)-of-(\d+)")


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of a list of videos: number ``index`` of ``count``, from 1."""

    index: int
    count: int

    @property
    def name(self) -> str:
        """Such as ``03-of-16``, as in names of files."""
        width = max(2, len(str(self.count)))
        return f"{self.index:0{width}}-of-{self.count:0{width}}"

    @property
    def manifest(self) -> str:
        """Such as ``manifest-03-of-16.json``."""
        return f"manifest-{self.name}.json"

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, video: str) -> bool:
        """Tell whether the video of this name belongs to the shard."""
        digest = hashlib.sha256(os.fsencode(video)).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1


def shard_of(section: AnnotationConfig) -> Shard | None:
    """Return the shard of ``annotation.shard``, None for all videos."""
    if section.shard is None:
        return None
    index, _, count = section.shard.partition("/")
    return Shard(int(index), int(count))


def refuse_shard(config: Config, mode: str) -> None:
    """Refuse ``annotation.shard`` for a mode that needs all videos.

    Raises:
        ConfigError: a shard is set.

    """
    if config.annotation.shard is not None:
        raise ConfigError(
            f"annotation.shard: expected null for --mode {mode}, which needs all videos, got "
            f"{config.annotation.shard}; run it once, without a shard, after the last one"
        )


def shard_root(stage_dir: Path, shard: Shard | None) -> Path:
    """Return the folder of a run's lock, scratch files and journal."""
    return stage_dir if shard is None else stage_dir / SHARDS_FOLDER / shard.name


def shard_roots(stage_dir: Path) -> list[Path]:
    """Return the folders of the shards that were begun."""
    return sorted(p for p in (stage_dir / SHARDS_FOLDER).glob("*-of-*") if p.is_dir())


@contextlib.contextmanager
def exclusive_run(stage_dir: Path, shard: Shard | None) -> Iterator[Path]:
    """Lock a stage's folder for a shard, or for a run over all videos; give ``shard_root``.

    Runs of different shards share the folder; a run over all videos has it alone.

    Raises:
        BlockingIOError: another run over all videos, or of this shard, is at work.
        ConfigError: the folder has manifests of a split into another number of shards.
        OSError: the folder cannot be made or written.

    """
    if shard is None:
        with exclusive(stage_dir):
            for root in shard_roots(stage_dir):
                remove_stale_scratch(root)
            yield stage_dir
        return
    with lock_folder(stage_dir, shared=True):
        others = [s for s in _finished(stage_dir) if s.count != shard.count]
        if others:
            raise ConfigError(
                f"annotation.shard: expected one of the {others[0].count} shards that {stage_dir} "
                f"has manifests of, got {shard}; run the mode once without a shard to merge "
                f"them, or delete manifest-*-of-{others[0].name.rpartition('-')[2]}.json there: "
                "results are kept"
            )
        root = shard_root(stage_dir, shard)
        with exclusive(root):
            yield root


def _finished(stage_dir: Path) -> list[Shard]:
    """Return the shards with a manifest in the folder, in order."""
    stem, _, suffix = MANIFEST.rpartition(".")
    found = []
    for path in stage_dir.glob(f"{stem}-*-of-*.{suffix}"):
        match = _NAME.fullmatch(path.stem.removeprefix(f"{stem}-"))
        if match is not None:
            found.append(Shard(int(match[1]), int(match[2])))
    return sorted(found, key=lambda s: (s.count, s.index))


def stage_manifest(
    stage_dir: Path, stage: str | None = None, shard: Shard | None = None
) -> Manifest:
    """Read the end states of a stage: of one shard, or of all, merged from shards if need be.

    Args:
        stage_dir: the stage's folder.
        stage: as of ``read_manifest``.
        shard: of this shard alone; None: of all videos.

    Raises:
        FileNotFoundError: the stage, or one of its shards, has not finished in this folder.
        ArtifactError: a file is damaged, of another kind, or shards differ in their settings.

    """
    finished = _finished(stage_dir)
    if shard is not None:
        if shard in finished:
            return read_manifest_file(stage_dir / shard.manifest)
        whole = _merged(stage_dir, stage, finished) if _complete(finished) else None
        whole = read_manifest(stage_dir, stage) if whole is None else whole
        kept = tuple(o for o in whole.outcomes if shard.has(o.video))
        return Manifest(whole.stage, whole.settings, kept)
    return _merged(stage_dir, stage, finished) if finished else read_manifest(stage_dir, stage)


def _complete(finished: Sequence[Shard]) -> bool:
    counts = {s.count for s in finished}
    return len(counts) == 1 and len(finished) == counts.pop()


def _merged(stage_dir: Path, stage: str | None, finished: Sequence[Shard]) -> Manifest:
    mode = "" if stage is None else f" --mode annotation.{stage}"
    counts = sorted({s.count for s in finished})
    if len(counts) > 1:
        raise FileNotFoundError(
            f"{stage_dir}: expected the manifests of one split, found those of splits into "
            f"{' and '.join(map(str, counts))} shards; run{mode or ' the stage'} without a shard"
        )
    missing = sorted(set(range(1, counts[0] + 1)) - {s.index for s in finished})
    if missing:
        names = ", ".join(f"{i}/{counts[0]}" for i in missing[:20])
        more = f" and {len(missing) - 20} more" if len(missing) > 20 else ""
        raise FileNotFoundError(
            f"{stage_dir}: {len(missing)} of {counts[0]} shards have not finished: {names}{more}; "
            f"run{mode} with --shard for these, or once without a shard, which does what is left"
        )
    parts = [read_manifest_file(stage_dir / s.manifest) for s in finished]
    if any(part.settings != parts[0].settings for part in parts):
        raise ArtifactError(
            f"{stage_dir}: manifests of shards with different settings; run{mode} without a shard"
        )
    outcomes = chain.from_iterable(part.outcomes for part in parts)
    by_name = tuple(sorted(outcomes, key=lambda o: o.video))
    return Manifest(parts[0].stage, parts[0].settings, by_name)


def finish_run(stage_dir: Path, shard: Shard | None, manifest: Manifest) -> None:
    """Write the manifest of a shard, or that of all videos in place of the shards' manifests."""
    root = shard_root(stage_dir, shard)
    if shard is not None:
        write_manifest(stage_dir, manifest, shard.manifest, root)
        return
    merged = [stage_dir / one.manifest for one in _finished(stage_dir)]
    # One goes last: where this is killed, a split that lacks shards is refused, not read as new.
    for path in merged[1:]:
        path.unlink(missing_ok=True)
    write_manifest(stage_dir, manifest, MANIFEST, root)
    for path in merged[:1]:
        path.unlink(missing_ok=True)
    shutil.rmtree(stage_dir / SHARDS_FOLDER, ignore_errors=True)  # read into this run's journal


def kept_outcomes(
    stage_dir: Path, shard: Shard | None, videos: Collection[str]
) -> tuple[Outcome, ...]:
    """Return the end states that earlier runs left of these videos.

    Args:
        stage_dir: the stage's folder.
        shard: whose run this is.
        videos: those of the input that a narrower ``annotation.include`` leaves out.

    """
    if not videos:
        return ()
    before: Mapping[str, Outcome] = outcomes_before(stage_dir / MANIFEST)
    for finished in _finished(stage_dir):
        before = {**before, **outcomes_before(stage_dir / finished.manifest)}
    return tuple(
        outcome
        for video, outcome in before.items()
        if video in videos and (shard is None or shard.has(video))
    )


def other_roots(stage_dir: Path, shard: Shard | None) -> list[Path]:
    """Return the folders of the journals that a run reads beside its own."""
    return shard_roots(stage_dir) if shard is None else [stage_dir]
