"""Train on all groups but one and ask about that one: poses, movement, and both fused.

Nothing of a group that is left out decides anything about it: the movement stream's setting and
the weights of the fusion come from windows of the other groups, each judged by models that had
left out its group as well.
"""

import hashlib
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from benchmarks._falls_data import BED, BED_GROUP, FIGHTS
from benchmarks._falls_windows import FALL
from recognizer.action.fusion import fit_fusion
from recognizer.action.movement_model import (
    choose_setting,
    fit_movement,
    inner_folds,
    predict_movement,
)
from recognizer.training.classifier.crossval_fold import FoldJob, finished, job_key


@dataclass(frozen=True)
class Learning:
    """What is learnt from beside the real falls and the normal footage."""

    bed: bool = True
    fights: bool = True

    @property
    def name(self):
        """Return a word for folders and tables."""
        parts = [word for word, on in (("bed", self.bed), ("fights", self.fights)) if on]
        return "+".join(parts) or "base"


def to_learn(windows, learning):
    """Tell which windows are learnt from: of what is normal every other one.

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
    """The windows, their groups and what of them is learnt from."""

    def __init__(self, windows, group_of, learning):
        self.windows, self.learning = windows, learning
        self.groups = np.array([group_of[w.video] for w in windows])
        self.there = np.array([w.sample is not None for w in windows])
        self.learnt = to_learn(windows, learning)
        self.labels = np.array([-1 if w.label is None else w.label for w in windows], np.int64)

    def names(self):
        """Return the groups to leave out, in order of name."""
        return sorted(set(self.groups))

    def train(self, without):
        """Return the indices of the windows to learn from, without some groups."""
        return np.flatnonzero(self.learnt & ~np.isin(self.groups, list(without)))

    def test(self, group):
        """Return the indices of the windows of a group with somebody in them."""
        return np.flatnonzero(self.there & (self.groups == group))

    def without(self, *groups):
        """Return the set of groups that a training leaves out: these, and those not learnt from."""
        return frozenset(groups) | (frozenset() if self.learning.bed else {BED_GROUP})


# --- poses -------------------------------------------------------------------------


def pose_jobs(task, network, folder, seed, *, inner=True):
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
    facts = {"config": text, "options": list(options), "seed": seed}
    return {
        without: _job(task, (config_file, tuple(options)), folder, seed, facts, without)
        for without in sorted(sets, key=lambda s: (len(s), sorted(s)))
    }


def _job(task, network, folder, seed, facts, without):
    """Return the training that leaves out some groups and predicts their windows."""
    parts = [task.train(without), np.flatnonzero(task.there & np.isin(task.groups, list(without)))]
    samples = [[task.windows[i].sample for i in part] for part in parts]
    train, test = (tuple(s.name for s in part) for part in samples)
    digest = [(s.name, s.label, float(s.keypoints.sum())) for part in samples for s in part]
    fights = "fights" if task.learning.fights else "no_fights"
    name = f"{network[0].stem}/{fights}/seed{seed}/without_{'+'.join(sorted(without))}"
    key = job_key({**facts, "data": sorted(digest)}, train, test)
    return FoldJob(name, *network, seed, folder / name, key, train, test, {})


class Poses:
    """What finished trainings say of windows that they left out."""

    def __init__(self, task, jobs):
        self.task, self.jobs, self._said = task, jobs, {}

    def __call__(self, without, indices):
        """Return the probabilities (N, 2) of windows of groups in ``without``."""
        job = self.jobs[without]
        if without not in self._said:
            self._said[without] = dict(zip(job.test, finished(job), strict=True))
        return np.stack([self._said[without][self.task.windows[i].sample.name] for i in indices])


# --- movement, and both ------------------------------------------------------------


def predict(task, seed, poses=None):
    """Return the probability of a fall in each window, by stream, from models without its group.

    Args:
        task: the windows.
        seed: of the movement stream.
        poses: ``Poses``; None: the movement stream alone.

    """
    said = {name: np.zeros(len(task.windows)) for name in ("movement", "pose", "fused")}
    chosen = {}
    for group in task.names():
        test, without = task.test(group), task.without(group)
        train = task.train(without)
        model, choice, learnt = _fit(task, train, seed)
        movement = predict_movement(model, _rows(task, test))
        known = _known(task, test)
        said["movement"][test[known]] = movement[known, 1]
        chosen[group] = choice.setting
        if poses is None:
            continue
        pose = poses(without, test)
        fusion = fit_fusion(
            _held_out(task, poses, without, learnt), choice.held_out, task.labels[learnt]
        )
        said["pose"][test] = said["fused"][test] = pose[:, 1]
        said["fused"][test[known]] = fusion(pose[known], movement[known])[:, 1]
        chosen[group] += f"; pose {fusion.pose:.2f}, movement {fusion.movement:.2f}"
    return (said if poses else {"movement": said["movement"]}), chosen


def fit_all(task, seed, poses):
    """Return the movement stream of everything that is learnt from, its choice and its fusion.

    The fusion is fitted on what models say of the groups that they left out.
    """
    without = task.without()
    model, choice, learnt = _fit(task, task.train(without), seed)
    said = _held_out(task, poses, without, learnt)
    return model, choice, fit_fusion(said, choice.held_out, task.labels[learnt])


def _known(task, indices):
    return np.array([task.windows[i].movement is not None for i in indices], np.bool_)


def _rows(task, indices):
    width = next(len(w.movement) for w in task.windows if w.movement is not None)
    nothing = np.zeros(width, np.float32)
    found = (task.windows[i].movement for i in indices)
    return np.stack([nothing if row is None else row for row in found])


def _fit(task, train, seed):
    """Return a movement stream of the windows to learn from, its choice, and what it learnt."""
    learnt = train[_known(task, train)]
    rows, labels, groups = _rows(task, learnt)[:, None], task.labels[learnt], task.groups[learnt]
    folds = inner_folds(labels.tolist(), groups.tolist(), len(set(groups)), seed)
    choice = choose_setting(rows, labels, folds, seed)
    return fit_movement(choice.setting, rows, labels, seed), choice, learnt


def _held_out(task, poses, without, learnt):
    """Return what networks that left out a window's group too say of it, (N, 2)."""
    said = np.zeros((len(learnt), 2))
    for group in set(task.groups[learnt]):
        own = task.groups[learnt] == group
        said[own] = poses(without | {group}, learnt[own])
    return said
