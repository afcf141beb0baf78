"""Export of trained checkpoints as one ONNX network, and the reference for it.

The shipped network takes only the people who are there. GCNHead averages features over all
slots, and an empty slot's feature (of zeros) is a constant of the weights, so the mean is
``constant + sum over the present of (feature - constant) / slots``: exact, for any number of
people. Several checkpoints become one network whose probabilities are averaged.
"""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import recognizer.action.registered  # noqa: F401  (configs name what it registers)
from recognizer.action.classifier import OUTPUT
from recognizer.action.classifier_metadata import ClassifierMetadata
from recognizer.action.features import FeatureSettings, from_pipeline
from recognizer.action.mmaction import STGCN
from recognizer.action.network import FastSTGCN, pooled_features
from recognizer.backends.network import ModelError
from recognizer.dataset.mmaction import to_mmaction
from recognizer.openmmlab import scope, without_initial_weights
from recognizer.runner.checkpoints import checkpoint_config, load_checkpoint
from recognizer.skeleton import NUM_KEYPOINTS
from recognizer.storage.artifacts import METADATA_KEY
from recognizer.types import Sample

OPSET = 17
# Names that mean a class of mmaction2's or ours. mmengine takes any other name for a Python
# object and calls it, so a config from somewhere else may name nothing but these.
_BACKBONES, _HEADS = {"STGCN", "FastSTGCN"}, {"GCNHead", "Float32GCNHead"}
_MODEL_TYPES = (
    _BACKBONES
    | _HEADS
    | {"RecognizerGCN", "CrossEntropyLoss", "ActionDataPreprocessor", "BN", "BN1d", "BN2d", "ReLU"}
)
# FastSTGCN's own argument, which mmaction2's STGCN does not take; it does not change the result.
_OURS_ONLY = ("with_cp",)


@dataclass(frozen=True)
class EnsembleMember:
    """One trained checkpoint.

    Attributes:
        recognizer: mmaction2's RecognizerGCN with its plain STGCN, in eval mode.
        features: its input, read from its test pipeline.
        pipeline: that pipeline's steps.
        ann_files: the pickles of its test, validation and training loaders, as the config names
            them.
        meta: the checkpoint's own metadata, ``meta['recognizer']``; empty without.

    """

    recognizer: Any
    features: FeatureSettings
    pipeline: Sequence[Mapping[str, Any]]
    ann_files: tuple[str, ...]
    meta: Mapping[str, object]

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return int(self.recognizer.cls_head.num_classes)


def load_member(path: Path) -> EnsembleMember:
    """Load a checkpoint with the network that the config text in it describes.

    The text is read as values and never run.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, without a config, or of a network or pipeline that cannot be shipped.

    """
    checkpoint = load_checkpoint(path)
    config = checkpoint_config(checkpoint, str(path)).to_dict()
    try:
        pipeline = config["test_dataloader"]["dataset"]["pipeline"]
        features = from_pipeline(pipeline)
        recognizer = _build(config["model"])
        recognizer.load_state_dict(checkpoint["state_dict"], strict=True)
    except KeyError as error:
        raise ValueError(f"{path}: its config lacks {error}") from error
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: {error}") from error
    ours = checkpoint["meta"].get("recognizer")
    return EnsembleMember(
        recognizer.eval(),
        features,
        pipeline,
        tuple(_ann_files(config)),
        ours if isinstance(ours, Mapping) else {},
    )


def _ann_files(config: Mapping[str, Any]) -> list[str]:
    loaders = [config.get(f"{part}_dataloader") for part in ("test", "val", "train")]
    datasets = [loader.get("dataset", {}) for loader in loaders if loader]
    # Training wraps its data set, for seeds by epoch and sample.
    files = [dataset.get("dataset", dataset).get("ann_file") for dataset in datasets]
    return list(dict.fromkeys(file for file in files if isinstance(file, str) and file))


def _build(model: Mapping[str, Any]) -> Any:
    """Build mmaction2's own recognizer with mmaction2's own STGCN."""
    model = without_initial_weights(model)
    _refuse_types(model)
    backbone = {k: v for k, v in model["backbone"].items() if k not in _OURS_ONLY}
    recognizer, network, head = model["type"], backbone["type"], model["cls_head"]["type"]
    if recognizer != "RecognizerGCN" or network not in _BACKBONES or head not in _HEADS:
        raise ValueError(
            f"model: expected RecognizerGCN with STGCN or FastSTGCN and GCNHead, got "
            f"{recognizer} with {network} and {head}"
        )
    if model["cls_head"].get("average_clips", "prob") != "prob":
        raise ValueError("model: expected average_clips='prob' in the head (the default)")
    from mmaction.registry import MODELS

    with scope("mmaction"):
        backbone["type"], model["cls_head"]["type"] = "STGCN", "GCNHead"
        return MODELS.build({**model, "backbone": backbone})


def _refuse_types(value: object) -> None:
    if isinstance(value, list | tuple):
        for part in value:
            _refuse_types(part)
    if not isinstance(value, Mapping):
        return
    if "type" in value:
        kind = value["type"]
        if not isinstance(kind, str) or kind not in _MODEL_TYPES:
            raise ValueError(
                f"model: cannot ship {str(kind)[:60]!r}; known: {', '.join(sorted(_MODEL_TYPES))}"
            )
    for part in value.values():
        _refuse_types(part)


# --- the shipped network -----------------------------------------------------------


class ClassifierGraph(nn.Module):
    """Members as one network: people present in, probabilities out.

    Args:
        members: trained checkpoints.
        metadata: its ``inputs`` give the features of each member.

    """

    def __init__(self, members: Sequence[EnsembleMember], metadata: ClassifierMetadata) -> None:
        super().__init__()
        inputs = list(metadata.inputs.values())
        self._input_of = [inputs.index(member.features) for member in members]
        self._slots = [member.features.num_person for member in members]
        # Beside the ModuleList, which registers them but gives them back as plain modules.
        self._typed_backbones = [_restructured(m.recognizer.backbone) for m in members]
        self.backbones = nn.ModuleList(self._typed_backbones)
        self.layers = nn.ModuleList(member.recognizer.cls_head.fc for member in members)
        for i, (backbone, member) in enumerate(zip(self._typed_backbones, members, strict=True)):
            self.register_buffer(f"absent_{i}", absent_feature(backbone, member.features))
        self.eval()

    def forward(self, *persons: Tensor) -> Tensor:
        """Return probabilities (1, K) of people (P, clip_len, 17, C), one array per input."""
        parts: list[Tensor] = []
        for i, (backbone, layer) in enumerate(zip(self._typed_backbones, self.layers, strict=True)):
            absent = getattr(self, f"absent_{i}")
            present = pooled_features(backbone, persons[self._input_of[i]])
            mean = absent + (present - absent).sum(0, keepdim=True) / self._slots[i]
            parts.append(layer(mean).softmax(1))
        return sum(parts[1:], parts[0]) / len(parts)


def _restructured(backbone: Any) -> FastSTGCN:
    """Return FastSTGCN with the weights of an STGCN: its forward is the one that is exported."""
    fast: FastSTGCN = copy.deepcopy(backbone)
    fast.__class__ = FastSTGCN
    fast.with_cp = False
    return fast


def absent_feature(backbone: STGCN, features: FeatureSettings) -> Tensor:
    """Return the feature (1, C') of an empty slot, computed in float64, as float32."""
    zeros = torch.zeros(1, features.clip_len, NUM_KEYPOINTS, features.channels, dtype=torch.float64)
    exact = copy.deepcopy(backbone).double().eval()
    with torch.inference_mode():
        return pooled_features(exact, zeros).float().clone()


def write_onnx(path: Path, members: Sequence[EnsembleMember], metadata: ClassifierMetadata) -> None:
    """Write members and their metadata as one ONNX file, and check the file.

    Raises:
        ModelError: members that do not fit together, or a file that onnx refuses.
        OSError: it cannot be written.

    """
    import onnx

    if {member.num_classes for member in members} != {len(metadata.classes)}:
        counts = ", ".join(str(member.num_classes) for member in members)
        raise ModelError(
            f"expected {len(metadata.classes)} classes ({', '.join(metadata.classes)}) in every "
            f"checkpoint, got {counts}"
        )
    if len({member.features.num_person for member in members}) > 1:
        raise ModelError("expected checkpoints of one num_person, got different ones")
    names = list(metadata.inputs)
    # Two people: a person axis of 1 would be taken for a constant by some operators.
    example = tuple(
        torch.zeros(2, s.clip_len, NUM_KEYPOINTS, s.channels) for s in metadata.inputs.values()
    )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # its deprecation; shapes that are constants here
        torch.onnx.export(
            ClassifierGraph(members, metadata),
            example,
            str(path),
            input_names=names,
            output_names=[OUTPUT],
            dynamic_axes={name: {0: f"people_{i}"} for i, name in enumerate(names)},
            opset_version=OPSET,
            dynamo=False,  # the other exporter needs onnxscript, which is no part of the setup
        )
    model = onnx.load(str(path))
    model.metadata_props.add(key=METADATA_KEY, value=metadata.to_text())
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


# --- the reference -----------------------------------------------------------------


def reference_probabilities(member: EnsembleMember, sample: Sample) -> NDArray[np.float64]:
    """Return the probabilities (K,) of a sample by mmaction2's pipeline and recognizer."""
    from mmengine.dataset import Compose, pseudo_collate

    # The pipeline works in place, and mmaction2's data set adds these two keys.
    item = {**copy.deepcopy(to_mmaction(sample)), "modality": "Pose", "start_index": 0}
    with scope("mmaction"), torch.inference_mode():
        packed = Compose([dict(step) for step in member.pipeline])(item)
        (prediction,) = member.recognizer.test_step(pseudo_collate([packed]))
    scores: NDArray[np.float64] = prediction.pred_scores.item.numpy().astype(np.float64)
    return scores
