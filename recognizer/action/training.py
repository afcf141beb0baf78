"""Train a classifier on mmaction2, and predict with a trained one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from numpy.typing import NDArray

from recognizer.action import registered
from recognizer.action.train_config import load_train_config
from recognizer.action.views import View, average, views_of
from recognizer.dataset.class_check import class_warnings
from recognizer.dataset.mmaction import NAME_KEY, read_split, to_mmaction
from recognizer.openmmlab import scope
from recognizer.runner.checkpoints import (
    CheckpointError,
    checkpoint_config,
    load_checkpoint,
    load_weights,
)
from recognizer.runner.preflight import check_batches, warn
from recognizer.runner.run import OnProgress, TrainingTask, global_state, run
from recognizer.runner.train_config import datasets
from recognizer.storage.artifacts import METADATA_KEY, sha256_file
from recognizer.types import Sample

__all__ = ["load_train_config", "model_of", "predict", "predict_views", "registered", "train"]

_BATCH = 32


def train(
    cfg: Config, *, resume: bool | Path = False, on_progress: OnProgress | None = None
) -> Path:
    """Train a classifier and return the best checkpoint, or the last one without val.

    Args:
        cfg: of ``load_train_config``; ``cfg.work_dir`` is where everything goes.
        resume: go on from the work_dir's last checkpoint (start if there is none), or from the
            checkpoint that is named.
        on_progress: called after each iteration.

    Raises:
        ArtifactError, FileNotFoundError: an invalid pickle.
        FileExistsError, CheckpointError, NotFiniteError, TrainConfigError: as ``runner.run``.

    """
    return run(
        cfg,
        TrainingTask("mmaction", _metadata, (NAME_KEY,)),
        resume=resume,
        on_progress=on_progress,
    )


def _metadata(cfg: Config) -> dict[str, object]:
    """Check the pickles of the config and return their metadata for the checkpoints."""
    metadata: dict[str, object] = {}
    samples = {}
    for split, dataset in datasets(cfg).items():
        path = Path(dataset.ann_file)
        if split == "test" and not path.is_file():
            continue  # not read in training; used for its test pipeline
        samples[split] = read_split(path)  # mmaction2 would execute code in it
        metadata[f"{split}_sha256"] = sha256_file(path)
        if split != "test":
            check_batches(cfg, split, len(samples[split]), "samples")
    warn(class_warnings(samples, (cfg.get(METADATA_KEY) or {}).get("classes")))
    return metadata


# --- predicting with a trained one ------------------------------------------------------


def model_of(path: Path, device: str = "cpu") -> tuple[Any, Config, dict[str, Any]]:
    """Return the trained model in eval mode, its config, and the whole checkpoint.

    Nothing in the file is executed: the config in it is read as literals.

    Raises:
        FileNotFoundError, CheckpointError: as ``load_checkpoint``, or the config in it cannot be
            built, or does not belong to the weights.

    """
    from mmaction.registry import MODELS

    checkpoint = load_checkpoint(path)
    cfg = checkpoint_config(checkpoint, str(path))
    if "model" not in cfg:
        raise CheckpointError(f"{path}: the config in it has no model")
    try:
        with scope("mmaction"):
            model = MODELS.build(cfg.model)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise CheckpointError(f"{path}: the model in it cannot be built: {error}") from error
    load_weights(model, checkpoint["state_dict"], path, strict=True)
    return model.to(device).eval(), cfg, checkpoint


def predict(
    checkpoint: Path,
    samples: Path | Sequence[Sample],
    device: str = "cpu",
    views: Sequence[str] = (),
) -> NDArray[np.float64]:
    """Return the probabilities (N, classes) of samples, or of the samples in a pickle.

    With ``views`` (names of ``views.VIEWS``) they are the mean over the samples and their views.

    Raises:
        FileNotFoundError, CheckpointError, ArtifactError: as ``predict_views``.

    """
    return average(list(predict_views(checkpoint, samples, device, views)))


def predict_views(
    checkpoint: Path,
    samples: Path | Sequence[Sample],
    device: str = "cpu",
    views: Sequence[str] = (),
) -> NDArray[np.float64]:
    """Return the probabilities (1 + views, N, classes) of samples as they are and in each view.

    The pipeline is that of the test loader in the checkpoint's config (val's if there is none),
    so samples are predicted as in mmaction2's own test.

    Raises:
        FileNotFoundError, CheckpointError: as ``model_of``.
        ArtifactError: an invalid pickle.

    """
    model, cfg, _ = model_of(checkpoint, device)
    if isinstance(samples, Path):
        samples = read_split(samples)
    found = datasets(cfg)
    if not found.keys() & {"test", "val"}:
        raise CheckpointError(f"{checkpoint}: its config has neither test nor val pipeline")
    dataset = found.get("test") or found["val"]
    rows = []
    seen = [view for sample in samples for view in views_of(sample, views)]
    with scope("mmaction"), global_state():
        pipeline = Compose(list(dataset.pipeline))
        for start in range(0, len(seen), _BATCH):
            items = [_item(view) for view in seen[start : start + _BATCH]]
            batch = pseudo_collate([pipeline(item) for item in items])
            with torch.no_grad():
                rows += [result.pred_scores.item for result in model.test_step(batch)]
    if not rows:
        return np.zeros((len(views) + 1, 0, int(cfg.model.cls_head.num_classes)))
    probabilities: NDArray[np.float64] = torch.stack(rows).double().cpu().numpy()
    by_sample = probabilities.reshape(len(samples), len(views) + 1, -1)
    return np.ascontiguousarray(by_sample.swapaxes(0, 1))


def _item(view: View) -> dict[str, object]:
    added = {"modality": "Pose", "start_index": 0, "part_of_clip": view.part}
    return {**_copied(to_mmaction(view.sample)), **added}


def _copied(item: Mapping[str, object]) -> dict[str, object]:
    """Return an item whose arrays mmaction2's transforms may change in place."""
    return {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in item.items()}
