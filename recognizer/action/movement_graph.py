"""The movement stream as ONNX: written from scikit-learn's model, and joined to a pose network.

Plain operators only, so that every provider runs it: a tree is walked by looking up where each
node leads, one step per level, all trees at once. Thresholds are rounded down to float32, which
sends every float32 measure the same way as scikit-learn's float64 comparison does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from recognizer.action.fusion import LOWEST, Fusion
from recognizer.action.movement_metadata import (
    INPUT,
    OUTPUT,
    POSE_OUTPUT,
    MovementMetadata,
    movement_text,
    read_movement_text,
)
from recognizer.backends.network import ModelError
from recognizer.backends.onnx_files import check_file
from recognizer.storage.artifacts import METADATA_KEY
from recognizer.types import Float64Array, FloatArray

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto
    from sklearn.base import ClassifierMixin
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree._tree import Tree

OPSET, _IR_VERSION = 17, 8
_FUSED = "probabilities"
_PREFIX = "movement/"


class _GraphBuilder:
    """Nodes and constants of a graph as they are added, names with a prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, value: ArrayLike, dtype: type) -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        name = f"{self.prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        from onnx import helper

        name = output or f"{self.prefix}{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name


# --- the movement stream -----------------------------------------------------------


def write_movement(
    path: Path,
    model: "ClassifierMixin",
    metadata: MovementMetadata,
    service: str,
    classes: Sequence[str],
) -> None:
    """Write a fitted model and its metadata as one ONNX file.

    Args:
        path: the file; an existing one is replaced.
        model: of ``movement_model.fit_movement``.
        metadata: of the model.
        service: fight or falldown.
        classes: names in the order of labels.

    Raises:
        ModelError: a model of another number of measures or classes, or not finite.
        OSError: it cannot be written.

    """
    import onnx
    from onnx import TensorProto, helper

    if (model.n_features_in_, len(model.classes_)) != (len(metadata.measures), len(classes)):
        raise ModelError(
            f"expected a model of {len(metadata.measures)} measures and {len(classes)} classes, "
            f"got {model.n_features_in_} and {len(model.classes_)}"
        )
    graph = _GraphBuilder(_PREFIX)
    _add_model(graph, model)
    shapes = [(INPUT, len(metadata.measures)), (OUTPUT, len(classes))]
    takes, gives = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in shapes]
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "movement", [takes], [gives], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    proto.ir_version = _IR_VERSION
    helper.set_model_props(proto, {METADATA_KEY: movement_text(metadata, service, tuple(classes))})
    _check_constants(proto.graph, path)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))


def _add_model(graph: _GraphBuilder, model: "ClassifierMixin") -> None:
    kind = type(model).__name__
    if kind == "Pipeline":
        _add_logistic(graph, *(step for _, step in model.steps))
    elif kind == "RandomForestClassifier":
        trees = [tree.tree_ for tree in model.estimators_]
        shares = [tree.value[:, 0] / tree.value[:, 0].sum(1, keepdims=True) for tree in trees]
        total = _add_trees(graph, trees, [share / len(trees) for share in shares])
        whole = graph.add("ReduceSum", total, graph.constant([1], np.int64), keepdims=1)
        graph.add("Div", total, whole, output=OUTPUT)
    elif kind == "GradientBoostingClassifier":
        _add_boosting(graph, model)
    else:
        raise ModelError(f"expected a model of movement_model.SETTINGS, got {kind}")


def _add_logistic(
    graph: _GraphBuilder, scaler: "StandardScaler", model: "LogisticRegression"
) -> None:
    weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:  # of two classes only the second's row is there
        weights = np.concatenate([np.zeros_like(weights), weights])
        bias = np.concatenate([[0.0], bias])
    centred = graph.add("Sub", INPUT, graph.constant(scaler.mean_, np.float32))
    scaled = graph.add("Div", centred, graph.constant(scaler.scale_, np.float32))
    product = graph.add("MatMul", scaled, graph.constant(weights.T, np.float32))
    logits = graph.add("Add", product, graph.constant(bias, np.float32))
    graph.add("Softmax", logits, axis=1, output=OUTPUT)


def _add_boosting(graph: _GraphBuilder, model: "GradientBoostingClassifier") -> None:
    classes, prior = len(model.classes_), np.asarray(model.init_.class_prior_, np.float64)
    trees, values = [], []
    for stage in model.estimators_:
        for place, regressor in enumerate(stage):
            trees.append(regressor.tree_)
            column = 1 if classes == 2 else place
            leaf = np.zeros((regressor.tree_.node_count, classes))
            leaf[:, column] = model.learning_rate * regressor.tree_.value[:, 0, 0]
            values.append(leaf)
    start = np.array([0.0, np.log(prior[1] / prior[0])]) if classes == 2 else np.log(prior)
    total = _add_trees(graph, trees, values)
    logits = graph.add("Add", total, graph.constant(start, np.float32))
    graph.add("Softmax", logits, axis=1, output=OUTPUT)


def _add_trees(
    graph: _GraphBuilder, trees: Sequence["Tree"], values: Sequence[Float64Array]
) -> str:
    """Add the walk through all trees; return the sum of what their leaves hold, (1, K)."""
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])
    first = np.repeat(starts[:-1], np.diff(starts))  # of each node the number of its tree's root
    leads = []
    for side in ("children_left", "children_right"):
        to = np.concatenate([getattr(tree, side) for tree in trees])
        # A leaf leads to itself.
        leads.append(graph.constant(np.where(to < 0, np.arange(len(to)), to + first), np.int32))
    feature = np.concatenate([np.maximum(tree.feature, 0) for tree in trees])
    features = graph.constant(feature, np.int32)
    thresholds = graph.constant(
        _rounded_down(np.concatenate([tree.threshold for tree in trees])), np.float32
    )
    measures = graph.add("Reshape", INPUT, graph.constant([-1], np.int64))
    at = graph.constant(starts[:-1], np.int32)
    for _ in range(max(tree.max_depth for tree in trees)):
        values_at = graph.add("Gather", measures, graph.add("Gather", features, at))
        low = graph.add("LessOrEqual", values_at, graph.add("Gather", thresholds, at))
        ways = [graph.add("Gather", lead, at) for lead in leads]
        at = graph.add("Where", low, *ways)
    leaves = graph.add("Gather", graph.constant(np.concatenate(values), np.float32), at)
    return graph.add("ReduceSum", leaves, graph.constant([0], np.int64), keepdims=1)


def _rounded_down(thresholds: Float64Array) -> FloatArray:
    near = thresholds.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    rounded: FloatArray = np.where(near > thresholds, below, near)
    return rounded


def _check_constants(graph: "GraphProto", path: Path) -> None:
    """Refuse weights that are no numbers."""
    from onnx import numpy_helper

    for constant in graph.initializer:
        value = numpy_helper.to_array(constant)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ModelError(
                f"{path}: {constant.name}: expected finite weights, got NaN or inf; fit the "
                "movement stream again (--mode train.movement)"
            )


# --- one file of both streams ------------------------------------------------------


def read_movement(path: Path) -> tuple["ModelProto", MovementMetadata, str, tuple[str, ...]]:
    """Return the ONNX model of a movement stream, its metadata, its service and its classes.

    Raises:
        FileNotFoundError: there is none.
        ModelError: not a file of ``write_movement``, or weights that are no numbers.

    """
    import onnx

    if not path.is_file():
        raise FileNotFoundError(
            f"expected a movement stream at {path}, found none; --mode train.movement makes it"
        )
    check_file(path)
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=True)
        texts = {entry.key: entry.value for entry in model.metadata_props}
        metadata, service, classes = read_movement_text(texts.get(METADATA_KEY, ""))
    except Exception as error:  # protobuf's and onnx's errors share no public base
        raise ModelError(f"{path}: not a file of the movement stream: {error!s:.300}") from error
    _check_graph(model, path, {INPUT: len(metadata.measures), OUTPUT: len(classes)})
    _check_constants(model.graph, path)
    return model, metadata, service, classes


def _check_graph(model: "ModelProto", path: Path, sizes: dict[str, int]) -> None:
    given = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    if given != {name: [1, size] for name, size in sizes.items()}:
        raise ModelError(f"{path}: expected inputs and outputs (1, N) of {sizes}, got {given}")
    made = [name for node in model.graph.node for name in node.output if name != OUTPUT]
    made += [constant.name for constant in model.graph.initializer]
    if strange := [name for name in made if not name.startswith(_PREFIX)]:
        raise ModelError(f"{path}: expected names that start with {_PREFIX}, got {strange[0]!r}")


def join_movement(path: Path, movement: "ModelProto", fusion: Fusion) -> None:
    """Make of a pose network's file one with the movement stream and the fusion inside.

    Args:
        path: a file of ``graphs.write_onnx``; it is replaced.
        movement: the ONNX model of ``read_movement``.
        fusion: the weights.

    Raises:
        ModelError: files of different operator sets, or a graph that onnx refuses.

    """
    import onnx

    pose = onnx.load(str(path))
    sets = [[(o.domain, o.version) for o in m.opset_import] for m in (pose, movement)]
    if sets[0] != sets[1]:
        raise ModelError(f"{path}: expected both streams of one operator set, got {sets}")
    for node in pose.graph.node:
        for names in (node.input, node.output):
            names[:] = [POSE_OUTPUT if name == _FUSED else name for name in names]
    fused = _GraphBuilder("fusion/")
    logs = [
        fused.add("Mul", _logarithms(fused, name), fused.constant(weight, np.float32))
        for name, weight in ((POSE_OUTPUT, fusion.pose), (OUTPUT, fusion.movement))
    ]
    total = fused.add("Add", fused.add("Add", *logs), fused.constant(fusion.bias, np.float32))
    fused.add("Softmax", total, axis=1, output=_FUSED)
    (output,) = pose.graph.output
    pose.graph.input.extend(movement.graph.input)
    for name in (POSE_OUTPUT, OUTPUT):
        another = pose.graph.output.add()
        another.CopyFrom(output)
        another.name = name
    pose.graph.node.extend([*movement.graph.node, *fused.nodes])
    pose.graph.initializer.extend([*movement.graph.initializer, *fused.constants])
    del pose.graph.value_info[:]
    onnx.checker.check_model(pose, full_check=True)
    onnx.save(pose, str(path))


def _logarithms(graph: _GraphBuilder, name: str) -> str:
    limits = [graph.constant(value, np.float32) for value in (LOWEST, 1 - LOWEST)]
    return graph.add("Log", graph.add("Clip", name, *limits))
