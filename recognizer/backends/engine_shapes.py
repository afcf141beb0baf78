"""Which shapes a TensorRT engine takes, and which buffers one run needs: arithmetic, no GPU.

TensorRT builds an engine for a range of shapes (an optimisation profile: smallest, tuned for,
largest) of each input whose size the ONNX file leaves free. The rules of a profile are those of
``IOptimizationProfile.set_shape`` in NVIDIA's API reference.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from recognizer.backends.network import FLOAT, Feeds, ModelError, TensorSpec
from recognizer.config.models import TensorRTPoseConfig

Shape = tuple[int, ...]

# TensorRT's name of an element type -> ONNX Runtime's name, which a TensorSpec carries, and
# NumPy's. TensorRT's other types (BF16, FP8, FP4, INT4, E8M0) have no NumPy twin.
ELEMENT_TYPES: dict[str, tuple[str, DTypeLike]] = {
    "FLOAT": (FLOAT, np.float32),
    "HALF": ("tensor(float16)", np.float16),
    "INT8": ("tensor(int8)", np.int8),
    "UINT8": ("tensor(uint8)", np.uint8),
    "INT32": ("tensor(int32)", np.int32),
    "INT64": ("tensor(int64)", np.int64),
    "BOOL": ("tensor(bool)", np.bool_),
}
_NUMPY = {onnx: np.dtype(numpy) for onnx, numpy in ELEMENT_TYPES.values()}
_COLOURS = 3
# TensorRT wants an address for an empty tensor, too, and cudaMalloc gives multiples of this.
_ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class ShapeRange:
    """The shapes one input may take: the smallest, the one tuned for, the largest."""

    name: str
    smallest: Shape
    tuned: Shape
    largest: Shape

    def __str__(self) -> str:
        """Return ``input (1,3,640,640)..(8,3,640,640)``."""
        return f"{self.name} {_text(self.smallest)}..{_text(self.largest)}"

    def free(self) -> tuple[int | None, ...]:
        """Return the shape with None where it may vary."""
        pairs = zip(self.smallest, self.largest, strict=True)
        return tuple(low if low == high else None for low, high in pairs)


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory of one tensor for one run."""

    name: str
    shape: Shape
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes that the elements take."""
        return math.prod(self.shape) * self.dtype.itemsize


def numpy_type(spec: TensorSpec) -> np.dtype[Any]:
    """Return the NumPy type of a tensor; raise ModelError where there is none."""
    if spec.dtype not in _NUMPY:
        raise ModelError(
            f"{spec.name}: expected elements of {', '.join(sorted(_NUMPY))}, got {spec.dtype}; "
            "export the network with float32 inputs and outputs"
        )
    return _NUMPY[spec.dtype]


# --- the profile -------------------------------------------------------------------


def profile(specs: Sequence[TensorSpec], section: TensorRTPoseConfig) -> tuple[ShapeRange, ...]:
    """Return the shape range of every input of an ONNX file.

    Axis 0 is the batch; of an image input (3 colours first or last) height and width may be
    free as well.

    Args:
        specs: the inputs as the file has them; None where it leaves the size free.
        section: the config's batch and input sizes.

    Raises:
        ModelError: an axis that is free and has no range in the config, or a fixed size outside
            of the config's range.

    """
    return tuple(_range(spec, section) for spec in specs)


def _range(spec: TensorSpec, section: TensorRTPoseConfig) -> ShapeRange:
    if not spec.shape:
        raise ModelError(f"{spec.name}: expected an input with a batch axis, got a single number")
    axes = [(size, size, size) if size is not None else None for size in spec.shape]
    axes[0] = _batch(spec, section)
    rows, columns = _image_axes(spec)
    if rows is not None and columns is not None:
        axes[rows] = _side(spec, rows, 1, section)
        axes[columns] = _side(spec, columns, 0, section)
    known = [axis for axis in axes if axis is not None]
    if len(known) < len(axes):
        free = [index for index, axis in enumerate(axes) if axis is None]
        raise ModelError(
            f"{spec}: expected free sizes on the batch and an image's height and width only, got "
            f"them on axes {free}; export the network with these sizes fixed"
        )
    smallest, tuned, largest = zip(*known, strict=True)
    return ShapeRange(spec.name, smallest, tuned, largest)


def _batch(spec: TensorSpec, section: TensorRTPoseConfig) -> tuple[int, int, int]:
    span = (section.min_batch, section.opt_batch, section.max_batch)
    size = spec.shape[0]
    if size is None:
        return span
    if not span[0] <= size <= span[2]:
        raise ModelError(
            f"{spec}: expected a free batch or one in min_batch..max_batch ({span[0]} to "
            f"{span[2]}), got a file exported for {size}; export it with a free batch, or set "
            f"min_batch, opt_batch and max_batch to {size}"
        )
    return size, size, size


def _image_axes(spec: TensorSpec) -> tuple[int | None, int | None]:
    """Return the axes of height and width: (B,3,H,W) or (B,H,W,3)."""
    if len(spec.shape) != 4:
        return None, None
    if spec.shape[1] == _COLOURS:
        return 2, 3
    return (1, 2) if spec.shape[3] == _COLOURS else (None, None)


def check_size(
    specs: Sequence[TensorSpec], ranges: Sequence[ShapeRange], size_wh: tuple[int, int]
) -> None:
    """Refuse an engine of images that was built for another input size than the config's.

    Raises:
        ModelError: ``size_wh``, (width, height), is not in the profile of an image input.

    """
    for spec, span in zip(specs, ranges, strict=True):
        rows, columns = _image_axes(spec)
        if rows is None or columns is None:
            continue
        low_wh = (span.smallest[columns], span.smallest[rows])
        high_wh = (span.largest[columns], span.largest[rows])
        if any(not a <= s <= b for a, s, b in zip(low_wh, size_wh, high_wh, strict=True)):
            takes = str(low_wh) if low_wh == high_wh else f"{low_wh} to {high_wh}"
            raise ModelError(
                f"model_input_size: expected {takes} (width, height), which the engine's "
                f"{spec.name} was built for, got {size_wh}"
            )


def _side(
    spec: TensorSpec, axis: int, which: int, section: TensorRTPoseConfig
) -> tuple[int, int, int]:
    sizes = (
        section.min_input_size or section.model_input_size,
        section.model_input_size,
        section.max_input_size or section.model_input_size,
    )
    low, tuned, high = (size[which] for size in sizes)
    size = spec.shape[axis]
    if size is not None and not low == tuned == high == size:
        side = ("width", "height")[which]
        expected = str(tuned) if low == high else f"{low}..{high}"
        raise ModelError(
            f"{spec}: expected the {side} of model_input_size and its range ({expected}), "
            f"got a file with the fixed {side} {size}; set model_input_size to the file's (width, "
            "height) and leave min_input_size and max_input_size null, or export with free sizes"
        )
    return low, tuned, high


# --- one run -----------------------------------------------------------------------


def check_feeds(feeds: Feeds, specs: Sequence[TensorSpec], ranges: Sequence[ShapeRange]) -> None:
    """Refuse inputs that the engine was not built for, before TensorRT sees them.

    Raises:
        ModelError: other names, another element type, or a shape outside of the profile.

    """
    names = [spec.name for spec in specs]
    if sorted(feeds) != sorted(names):
        raise ModelError(f"expected inputs {sorted(names)}, got {sorted(feeds)}")
    for spec, span in zip(specs, ranges, strict=True):
        array = feeds[spec.name]
        if array.dtype != numpy_type(spec):
            raise ModelError(f"{spec.name}: expected {numpy_type(spec)}, got {array.dtype}")
        if not inside(array.shape, span):
            raise ModelError(
                f"{span.name}: expected a shape in {_text(span.smallest)}..{_text(span.largest)}, "
                f"which the engine was built for, got {_text(array.shape)}; change min_batch, "
                "max_batch, model_input_size or its range and build again with --mode "
                "deploy.tensorrt"
            )


def inside(shape: Shape, span: ShapeRange) -> bool:
    """Return whether an input of this shape may go into the engine."""
    return len(shape) == len(span.smallest) and all(
        low <= size <= high
        for low, size, high in zip(span.smallest, shape, span.largest, strict=True)
    )


def static_inputs(
    specs: tuple[TensorSpec, ...], ranges: Sequence[ShapeRange], batch: int | None
) -> tuple[TensorSpec, ...]:
    """Return the inputs of an engine that is always given ``batch`` items (None: as it is).

    Raises:
        ModelError: the engine was built for other batches.

    """
    if batch is None:
        return specs
    for spec, span in zip(specs, ranges, strict=True):
        if not span.largest or not span.smallest[0] <= batch <= span.largest[0]:
            raise ModelError(
                f"static_batch: expected a batch that the engine was built for ({span}), got "
                f"{batch} for {spec.name}; change min_batch and max_batch and build again with "
                "--mode deploy.tensorrt"
            )
    return tuple(replace(spec, shape=(batch, *spec.shape[1:])) for spec in specs)


def most_items(ranges: Sequence[ShapeRange], batch: int | None) -> int:
    """Return the most items of one run; refuse an engine that holds fewer than ``batch``.

    Raises:
        ModelError: an engine built for a smaller batch.

    """
    largest = min((span.largest[0] for span in ranges if span.largest), default=1)
    if batch is not None and batch > largest:
        raise ModelError(
            f"expected an engine for batches of {batch}, got one built for at most {largest}; set "
            f"max_batch: {batch} and build again with --mode deploy.tensorrt, or ask for at most "
            f"{largest} at once (annotation.batch_size)"
        )
    return largest


def plan(specs: Sequence[TensorSpec], shapes: Mapping[str, Sequence[int]]) -> tuple[Buffer, ...]:
    """Return the buffers of the tensors whose sizes are known before the run.

    Args:
        specs: the tensors.
        shapes: the shape of each for this run; -1 where only the data decides (the output of
            non-maximum suppression): such a tensor has no buffer here, its memory is asked for
            while the network runs.

    """
    known = [spec for spec in specs if min(shapes[spec.name], default=0) >= 0]
    return tuple(
        Buffer(spec.name, tuple(int(size) for size in shapes[spec.name]), numpy_type(spec))
        for spec in known
    )


def capacity(held: int, needed: int) -> int:
    """Return the bytes a reused buffer must have: as it is where that is enough.

    Memory grows in steps of 256 bytes and never shrinks; an empty tensor has an address, too.
    """
    if needed <= held and held > 0:
        return held
    return max(1, math.ceil(needed / _ALIGNMENT)) * _ALIGNMENT


def _text(shape: Sequence[int]) -> str:
    return "(" + ",".join(str(size) for size in shape) + ")"
