"""Train on all groups but one and predict that one: by poses, by movement, and by both fused.

Nothing of a group that is left out decides anything about it: the movement stream's setting and
the weights of the fusion come from windows of the other groups, each predicted by models that left
out its group as well.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._falls_data import BED, BED_GROUP, FIGHTS
from benchmarks._falls_windows import FALL, Window
from recognizer.action.fusion import Fusion, fit_fusion
from recognizer.action.movement_model import (
    SelectedSetting,
    choose_setting,
    fit_movement,
    inner_folds,
    predict_movement,
)
from recognizer.training.classifier.crossval_fold import FoldJob, finished, job_key
from recognizer.types import FloatArray, IntArray, Sample, TimeArray

Groups = frozenset[str]


@dataclass(frozen=True)
class Learning:
    """What is learnt from, beside real falls and normal footage."""

    bed: bool = True
    fights: bool = True

    @property
    def name(self) -> str:
        """Return a word for folders and tables."""
        parts = [word for word, on in (("bed", self.bed), ("fights", self.fights)) if on]
        return "+".join(parts) or "base"


def to_learn(windows: Sequence[Window], learning: Learning) -> NDArray[np.bool_]:
    """Return which windows (N,) are learnt from: of normal footage every other one.

    Neighbours share three quarters of their frames. The shipped model learns from as many normal
    ones for each fall as those that are measured: its threshold is theirs.
    """
    return np.array(
        [
            w.sample is not None
            and w.label is not None
            and (w.label == FALL or i % 2 == 0)
            and (learning.bed or not w.video.startswith(BED))
            and (learning.fights or not w.video.startswith(FIGHTS))
            for i, w in enumerate(windows)
        ]
    )


class Task:
    """The windows, their groups, and which of them are learnt from."""

    def __init__(
        self, windows: Sequence[Window], group_of: Mapping[str, str], learning: Learning
    ) -> None:
        self.windows, self.learning = windows, learning
        self.groups = np.array([group_of[w.video] for w in windows])
        self.there = np.array([w.sample is not None for w in windows])
        self.learnt = to_learn(windows, learning)
        self.labels = np.array([-1 if w.label is None else w.label for w in windows], np.int64)

    def names(self) -> list[str]:
        """Return the groups to leave out, in order of name."""
        return sorted(set(self.groups))

    def train(self, without: Iterable[str]) -> IntArray:
        """Return the indices of the windows to learn from, without some groups."""
        return np.flatnonzero(self.learnt & ~np.isin(self.groups, list(without)))

    def test(self, group: str) -> IntArray:
        """Return the indices of the windows of a group that show people."""
        return np.flatnonzero(self.there & (self.groups == group))

    def without(self, *groups: str) -> Groups:
        """Return the set of groups that a training leaves out: these, and those not learnt from."""
        return frozenset(groups) | (frozenset() if self.learning.bed else {BED_GROUP})


# --- poses -------------------------------------------------------------------------


def pose_jobs(
    task: Task,
    network: tuple[Path, Sequence[str]],
    folder: Path,
    seed: int,
    *,
    inner: bool = True,
) -> dict[Groups, FoldJob]:
    """Return the trainings of the network, by the groups that each leaves out.

    Args:
        task: the windows.
        network: the mmaction2 config file and changes to it.
        folder: where they work; finished ones are kept.
        seed: of the training.
        inner: with those that leave out two groups, for the fusion.

    """
    config_file, options = network
    text = hashlib.sha256(config_file.read_bytes()).hexdigest()
    sets = {task.without(group) for group in task.names()}
    if inner:
        sets |= {task.without(*pair) for pair in combinations(task.names(), 2)}
    settings = {"config": text, "options": list(options), "seed": seed}
    return {
        without: _job(task, (config_file, tuple(options)), folder, seed, settings, without)
        for without in sorted(sets, key=lambda s: (len(s), sorted(s)))
    }


def _job(
    task: Task,
    network: tuple[Path, tuple[str, ...]],
    folder: Path,
    seed: int,
    settings: Mapping[str, Any],
    without: Groups,
) -> FoldJob:
    """Return the training that leaves out some groups and predicts their windows."""
    parts = [task.train(without), np.flatnonzero(task.there & np.isin(task.groups, list(without)))]
    samples = [[sample_of(task, i) for i in part] for part in parts]
    train, test = (tuple(s.name for s in part) for part in samples)
    digest = [(s.name, s.label, float(s.keypoints.sum())) for part in samples for s in part]
    fights = "fights" if task.learning.fights else "no_fights"
    name = f"{network[0].stem}/{fights}/seed{seed}/without_{'+'.join(sorted(without))}"
    key = job_key({**settings, "data": sorted(digest)}, train, test)
    return FoldJob(name, *network, seed, folder / name, key, train, test, {})


def sample_of(task: Task, index: int) -> Sample:
    """Return the sample of a window that shows people.

    Raises:
        ValueError: it shows none.

    """
    window = task.windows[index]
    if window.sample is None:
        raise ValueError(f"{window.video}, {window.start_s} s: expected people, found none")
    return window.sample


class Poses:
    """Predictions of finished trainings for windows that they left out."""

    def __init__(self, task: Task, jobs: Mapping[Groups, FoldJob]) -> None:
        self.task, self.jobs = task, jobs
        self._predictions: dict[Groups, dict[str, TimeArray]] = {}

    def __call__(self, without: Groups, indices: IntArray) -> TimeArray:
        """Return the probabilities (N, 2) of windows of groups in ``without``."""
        job = self.jobs[without]
        if without not in self._predictions:
            self._predictions[without] = dict(zip(job.test, finished(job), strict=True))
        predictions = self._predictions[without]
        return np.stack([predictions[sample_of(self.task, i).name] for i in indices])


# --- movement, and both ------------------------------------------------------------


def predict(
    task: Task, seed: int, poses: Poses | None = None
) -> tuple[dict[str, TimeArray], dict[str, str]]:
    """Return the probability of a fall in each window (N,), by stream, and each group's settings.

    The models of a group's windows did not learn from that group.

    Args:
        task: the windows.
        seed: of the movement stream.
        poses: ``Poses``; None: the movement stream alone.

    """
    probabilities = {name: np.zeros(len(task.windows)) for name in ("movement", "pose", "fused")}
    chosen: dict[str, str] = {}
    for group in task.names():
        test, without = task.test(group), task.without(group)
        train = task.train(without)
        model, choice, learnt = _fit(task, train, seed)
        movement = predict_movement(model, _rows(task, test))
        known = _known(task, test)
        probabilities["movement"][test[known]] = movement[known, 1]
        chosen[group] = choice.setting
        if poses is None:
            continue
        pose = poses(without, test)
        fusion = fit_fusion(
            _held_out(task, poses, without, learnt), choice.held_out, task.labels[learnt]
        )
        probabilities["pose"][test] = probabilities["fused"][test] = pose[:, 1]
        probabilities["fused"][test[known]] = fusion(pose[known], movement[known])[:, 1]
        chosen[group] += f"; pose {fusion.pose:.2f}, movement {fusion.movement:.2f}"
    return (probabilities if poses else {"movement": probabilities["movement"]}), chosen


def fit_all(task: Task, seed: int, poses: Poses) -> tuple[Any, SelectedSetting, Fusion]:
    """Return the movement stream of all groups, its choice of a setting, and its fusion.

    The fusion is fitted on predictions for groups that were left out.
    """
    without = task.without()
    model, choice, learnt = _fit(task, task.train(without), seed)
    probabilities = _held_out(task, poses, without, learnt)
    return model, choice, fit_fusion(probabilities, choice.held_out, task.labels[learnt])


def _known(task: Task, indices: IntArray) -> NDArray[np.bool_]:
    return np.array([task.windows[i].movement is not None for i in indices], np.bool_)


def _rows(task: Task, indices: IntArray) -> FloatArray:
    width = next(len(w.movement) for w in task.windows if w.movement is not None)
    nothing = np.zeros(width, np.float32)
    rows = (task.windows[i].movement for i in indices)
    return np.stack([nothing if row is None else row for row in rows])


def _fit(task: Task, train: IntArray, seed: int) -> tuple[Any, SelectedSetting, IntArray]:
    """Return a movement stream, its choice of a setting, and the windows that it learnt from."""
    learnt = train[_known(task, train)]
    rows, labels, groups = _rows(task, learnt)[:, None], task.labels[learnt], task.groups[learnt]
    folds = inner_folds(labels.tolist(), groups.tolist(), len(set(groups)), seed)
    choice = choose_setting(rows, labels, folds, seed)
    return fit_movement(choice.setting, rows, labels, seed), choice, learnt


def _held_out(task: Task, poses: Poses, without: Groups, learnt: IntArray) -> TimeArray:
    """Return predictions (N, 2) of networks that left out a window's group too."""
    probabilities = np.zeros((len(learnt), 2))
    for group in set(task.groups[learnt]):
        own = task.groups[learnt] == group
        probabilities[own] = poses(without | {group}, learnt[own])
    return probabilities
