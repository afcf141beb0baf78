"""Export trained classifiers as one ONNX file (pose networks: ``pose_export``).

The file's probabilities, by the classifier that inference uses, are compared with those of
mmaction2's own pipeline on real clips and on made skeletons of one person up to all slots. A file
that differs by more than 1e-4 is not kept.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploy.movement import check_fusion, read_stream
from deploy.outputs import written
from recognizer import __version__
from recognizer.action.classifier import Classifier
from recognizer.action.classifier_metadata import ClassifierMetadata
from recognizer.backends.network import ModelError
from recognizer.command import EXIT_DONE, next_command
from recognizer.config.action import ClassifierConfig
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.dataset.mmaction import read_split
from recognizer.runs.progress import ProgressFactory
from recognizer.skeleton import NUM_KEYPOINTS
from recognizer.storage.artifacts import sha256_file
from recognizer.types import NUM_MOVEMENTS, Sample

if TYPE_CHECKING:
    from recognizer.action.onnx_export import EnsembleMember

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4
_REAL_SAMPLES = 24
_DEFAULT_THRESHOLD = 0.5


def export(config: Config, progress: ProgressFactory) -> int:
    """Write ``deploy.checkpoint`` as the ONNX file ``deploy.output``; return the exit code.

    Args:
        config: the whole config.
        progress: not used; this mode takes seconds and logs.

    Raises:
        ConfigError: no checkpoint, or metadata that neither it nor the config has.
        FileNotFoundError: a checkpoint that is not there.
        ValueError: a checkpoint that cannot be shipped, or a file whose probabilities differ.

    """
    if config.deploy.model == "pose":
        from deploy.pose_export import export_pose

        return export_pose(config)
    paths = checkpoint_paths(config)
    output = config.deploy.output or paths[0].with_name(f"{config.deploy.model}.onnx")
    if output.suffix != ".onnx":
        raise ConfigError(f"deploy.output: expected a file name ending in .onnx, got {output}")
    logger.info("exporting %s", ", ".join(str(path) for path in paths))
    largest, compared = write_classifier(output, paths, config)
    logger.info(
        "%s: %.2f MB; %d samples, largest difference of a probability to mmaction2: %.1e",
        output,
        output.stat().st_size / 1e6,
        compared,
        largest,
    )
    changes = {f"inference.{config.deploy.model}.model_path": output.absolute()}
    logger.info("next: %s", next_command(config, "inference.analysis", changes))
    return EXIT_DONE


def checkpoint_paths(config: Config) -> list[Path]:
    """Return the checkpoints of ``deploy.checkpoint``; raise ConfigError without one."""
    value = config.deploy.checkpoint
    paths = value if isinstance(value, list) else [value]
    if not paths:
        raise ConfigError(
            "deploy.checkpoint: expected one checkpoint or more, got none; "
            f"--set deploy.checkpoint=<best_*.pth of --mode train.{config.deploy.model}>"
        )
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"deploy.checkpoint: expected a checkpoint at {path}")
    return paths


def write_classifier(output: Path, paths: Sequence[Path], config: Config) -> tuple[float, int]:
    """Write and compare the file; return the largest difference and the number of samples.

    Raises:
        ValueError: see ``export``; nothing is left under ``output`` that was not there before.

    """
    from recognizer.action.movement_graph import join_movement
    from recognizer.action.onnx_export import load_member, write_onnx

    members = [load_member(path) for path in paths]
    metadata = _checked_metadata(paths, members, config)
    movement = read_stream(config.deploy.movement, metadata)
    if movement is not None:
        # The checkpoint's threshold is for its own probabilities; fused ones are calibrated.
        threshold = movement[1].training.get("threshold", _DEFAULT_THRESHOLD)
        metadata = replace(metadata, movement=movement[1], threshold=threshold)
        try:
            ClassifierMetadata.from_text(metadata.to_text())
        except (TypeError, OverflowError, ValueError) as error:
            raise ModelError(
                f"{config.deploy.movement}: expected metadata that inference accepts: {error}"
            ) from error
    samples = [*real_samples(members), *made_samples(metadata.sample_people)]
    with written(output) as scratch:
        write_onnx(scratch, members, metadata)
        if movement is not None:
            join_movement(scratch, movement[0], movement[1].fusion)
        largest = largest_difference(scratch, members, samples)
        if config.deploy.movement is not None:
            check_fusion(scratch, config.deploy.movement, samples)
        if not largest <= TOLERANCE:
            raise ModelError(
                f"{output}: not written: its probabilities differ from mmaction2's by {largest:.1e}"
                f" on {len(samples)} samples, expected at most {TOLERANCE:.0e}"
            )
    return largest, len(samples)


def largest_difference(
    path: Path, members: Sequence["EnsembleMember"], samples: Sequence[Sample]
) -> float:
    """Return the largest difference of a probability between the file and mmaction2.

    Samples in which mmaction2's pipeline keeps nobody are left out: the classifier does not run
    the network for them.
    """
    from recognizer.action.onnx_export import reference_probabilities

    classifier = Classifier.open(ClassifierConfig(model_path=str(path.absolute())))
    differences = [0.0]
    for sample in samples:
        prediction = classifier.predict(sample)
        if prediction.no_people:
            continue
        reference = np.mean([reference_probabilities(m, sample) for m in members], axis=0)
        pose = prediction.streams.get("pose", prediction.probabilities)
        differences.append(float(np.abs(pose - reference).max()))
    # Not max(): a NaN must not be lost.
    return float(np.max(differences))


# --- metadata of the file ------------------------------------------------------------


def _checked_metadata(
    paths: Sequence[Path], members: Sequence["EnsembleMember"], config: Config
) -> ClassifierMetadata:
    """Return ``describe``'s metadata; refuse what inference would refuse."""
    try:
        metadata = describe(paths, members, config)
        ClassifierMetadata.from_text(metadata.to_text())
    except (ConfigError, ModelError):  # these name their own file or key
        raise
    except (TypeError, OverflowError, ValueError) as error:
        raise ValueError(
            f"{paths[0]}: meta['recognizer']: expected plain values: {error}"
        ) from error
    return metadata


def describe(
    paths: Sequence[Path], members: Sequence["EnsembleMember"], config: Config
) -> ClassifierMetadata:
    """Return the metadata of the file: from the checkpoints, else from the config's data set.

    Raises:
        ConfigError: checkpoints that contradict each other or the config, or missing metadata.

    """
    metas = [member.meta for member in members]
    model = config.deploy.model
    service = _agreed(metas, "service") or model
    if model == "pose" or service != model:
        raise ConfigError(
            f"deploy.model: it says {model}, the checkpoint was trained for "
            f"{service}; --set deploy.model={service}"
        )
    training = {
        "checkpoints": [
            {"file": path.name, "sha256": sha256_file(path), **_training_metadata(meta)}
            for path, meta in zip(paths, metas, strict=True)
        ]
    }
    classes = _agreed(metas, "classes") or _default_classes(config)
    if not isinstance(classes, list | tuple):  # a text would become its letters
        raise TypeError(f"expected classes as a list, got {classes!r}")
    return ClassifierMetadata(
        service=model,
        classes=tuple(classes),
        window_s=float(_agreed(metas, "window_s") or _default_window_s(members, config)),
        threshold=float(_threshold(metas)),
        features=tuple(member.features for member in members),
        training=training,
        created_by=f"recognizer {__version__}",
    )


def _agreed(metas: Sequence[Mapping[str, Any]], key: str) -> Any:
    values = [meta[key] for meta in metas if meta.get(key) is not None]
    for value in values[1:]:
        if value != values[0]:
            raise ConfigError(
                f"deploy.checkpoint: expected checkpoints of one {key}, got {values[0]} and {value}"
            )
    return values[0] if values else None


def _training_metadata(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what training wrote besides the keys that the file has itself."""
    known = {"service", "classes", "window_s", "threshold", "file", "sha256"}
    return {str(key): value for key, value in meta.items() if key not in known}


def _default_classes(config: Config) -> list[str]:
    _require_same_service(config, "classes")
    classes = config.dataset.classes
    names = sorted(classes, key=lambda name: classes[name])
    logger.info("the checkpoint does not name its classes: %s of dataset.classes", names)
    return names


def _default_window_s(members: Sequence["EnsembleMember"], config: Config) -> float:
    dataset = config.dataset
    if dataset.service == config.deploy.model and dataset.window_s is not None:
        logger.info("the checkpoint does not say its window: %g s of dataset", dataset.window_s)
        return dataset.window_s
    length_s = _clip_length_s(members)
    if length_s is None:
        raise ConfigError(
            "dataset.window_s: the checkpoint does not say how long its windows were, and neither "
            "the config nor metadata.json beside its pickles does; --set dataset.service="
            f"{config.deploy.model} --set dataset.window_s=<seconds of a training clip>"
        )
    logger.info("trained on whole clips: the window is their median length, %g s", length_s)
    return length_s


def _clip_length_s(members: Sequence["EnsembleMember"]) -> float | None:
    """Return the median length of the clips of the first data set that is still there."""
    for name in dict.fromkeys(name for member in members for name in member.ann_files):
        path = Path(name).with_name("metadata.json")
        if not path.is_file():
            continue
        try:
            samples = json.loads(path.read_bytes())["samples"].values()
            lengths = [float(sample["stop_s"]) - float(sample["start_s"]) for sample in samples]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{path}: expected stage 3's metadata of the clips, got {error!r}; run --mode "
                "annotation.stage3 again or --set dataset.window_s=<seconds of a training clip>"
            ) from error
        if lengths:
            return round(float(np.median(lengths)), 3)
    return None


def _require_same_service(config: Config, key: str) -> None:
    if config.dataset.service != config.deploy.model:
        raise ConfigError(
            f"deploy.model: the checkpoint does not say its {key}, and the config's data set is "
            f"one for {config.dataset.service}, not {config.deploy.model}; --set dataset.service="
            f"{config.deploy.model} with the {key} it was trained on"
        )


def _threshold(metas: Sequence[Mapping[str, Any]]) -> float:
    # Probabilities of the members are averaged, and so are their thresholds.
    values = [float(meta["threshold"]) for meta in metas if meta.get("threshold") is not None]
    return float(np.mean(values)) if len(values) == len(metas) else _DEFAULT_THRESHOLD


# --- samples to compare on ---------------------------------------------------------


def real_samples(members: Sequence["EnsembleMember"]) -> list[Sample]:
    """Return clips of the first pickle of the checkpoints' configs that is there and not empty."""
    for name in dict.fromkeys(name for member in members for name in member.ann_files):
        path = Path(name)
        if path.is_file() and (samples := read_split(path)):
            step = max(1, len(samples) // _REAL_SAMPLES)
            logger.info("comparing on %s", path)
            return samples[::step][:_REAL_SAMPLES]
    logger.info("the checkpoint's pickles are not here: comparing on made skeletons only")
    return []


def made_samples(num_person: int) -> list[Sample]:
    """Return skeletons that walk about, one person up to ``num_person``, clips short and long."""
    random = np.random.default_rng(0)
    samples = []
    for people in range(1, num_person + 1):
        frames = int(random.integers(30, 260))
        shape = (people, frames, NUM_KEYPOINTS)
        steps = random.normal(0, 2, (*shape[:2], 1, 2)).cumsum(axis=1)
        keypoints = random.uniform(100, 380, (people, 1, NUM_KEYPOINTS, 2)) + steps
        scores = random.uniform(0.2, 1, shape)
        absent = random.random(shape[:2]) < 0.1
        boxes = np.concatenate([keypoints.min(axis=2) - 5, keypoints.max(axis=2) + 5], axis=2)
        movement = random.gamma(1.0, 0.5, (*shape[:2], NUM_MOVEMENTS))
        keypoints[absent], scores[absent] = 0, 0
        boxes[absent], movement[absent] = np.nan, np.nan
        points, confidence, places, rates = (
            array.astype(np.float32) for array in (keypoints, scores, boxes, movement)
        )
        samples.append(
            Sample(
                name=f"made {people}",
                label=0,
                keypoints=points,
                keypoint_scores=confidence,
                size_wh=(640, 480),
                track_ids=np.arange(people, dtype=np.int64),
                boxes=places,
                movement=rates,
                time_s=np.arange(frames) / 25,
            )
        )
    return samples
