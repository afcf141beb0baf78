"""Small classifier files whose right answer is known: they tell where people are.

They keep the contract of a shipped classifier (deploy.export) and run in ONNX Runtime. The
probability of the event is the mean x of all joints, from 0 at the picture's left edge to
1 at its right.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from recognizer.action.classifier import ClassifierMetadata
from recognizer.action.features import FeatureSettings
from recognizer.scoring.ranking import Service
from recognizer.storage.artifacts import METADATA_KEY

CLASSES = {"fight": ("NonFight", "Fight"), "falldown": ("Normal", "Falldown")}
FEATURES = FeatureSettings(clip_len=20, num_person=2, feats=("j",))


def place_classifier(
    path: Path,
    service: Service = "fight",
    *,
    window_s: float = 1.0,
    threshold: float = 0.5,
    slope: float = 0.5,
) -> Path:
    """Save the classifier; ``slope`` -0.5: 1 at the left edge, 0 at the right."""
    constants = [
        ("first", np.array([0])),
        ("last", np.array([1])),
        ("channel", np.array([3])),
        ("slope", np.array(slope, np.float32)),
        ("half", np.array(0.5, np.float32)),
        ("zero", np.array(0.0, np.float32)),
        ("one", np.array(1.0, np.float32)),
        ("row", np.array([1, 1])),
    ]
    n = helper.make_node
    nodes = [
        n("Slice", ["persons", "first", "last", "channel"], ["x"]),
        n("ReduceMean", ["x"], ["mean"], keepdims=0),
        n("Mul", ["mean", "slope"], ["scaled"]),
        n("Add", ["scaled", "half"], ["place"]),
        n("Clip", ["place", "zero", "one"], ["clipped"]),
        n("Reshape", ["clipped", "row"], ["event"]),
        n("Sub", ["one", "event"], ["normal"]),
        n("Concat", ["normal", "event"], ["probabilities"], axis=1),
    ]
    shape: list[str | int | None] = ["P", FEATURES.clip_len, 17, FEATURES.channels]
    graph = helper.make_graph(
        nodes,
        "place",
        [helper.make_tensor_value_info("persons", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    helper.set_model_props(
        model, {METADATA_KEY: classifier_metadata(service, window_s, threshold).to_text()}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def classifier_metadata(service: Service, window_s: float, threshold: float) -> ClassifierMetadata:
    return ClassifierMetadata(
        service=service,
        classes=CLASSES[service],
        window_s=window_s,
        threshold=threshold,
        features=(FEATURES,),
        training={},
        created_by="tests",
    )
