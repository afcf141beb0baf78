"""Shapes and buffers of an engine: arithmetic and its refusals, no GPU."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recognizer.backends.engine_shapes import (
    Buffer,
    ShapeRange,
    capacity,
    check_feeds,
    check_size,
    inside,
    most_items,
    plan,
    profile,
    static_inputs,
)
from recognizer.backends.network import ModelError, TensorSpec
from recognizer.config.models import TensorRTPoseConfig


def section(**changes):
    return TensorRTPoseConfig.model_validate(changes)


def image(*shape, name="input"):
    return TensorSpec(name, shape, "tensor(float)")


# --- the profile -------------------------------------------------------------------


def test_a_free_batch_gets_its_range():
    (span,) = profile([image(None, 3, 640, 640)], section(min_batch=1, opt_batch=4, max_batch=16))
    assert span == ShapeRange("input", (1, 3, 640, 640), (4, 3, 640, 640), (16, 3, 640, 640))
    assert span.free() == (None, 3, 640, 640)
    assert str(span) == "input (1,3,640,640)..(16,3,640,640)"


def test_free_sides_get_their_range_width_first_in_the_config():
    expected = section(
        model_input_size=[640, 384], min_input_size=[320, 192], max_input_size=[960, 640]
    )
    (span,) = profile([image(None, 3, None, None)], expected)
    assert (span.smallest, span.tuned, span.largest) == (
        (1, 3, 192, 320),
        (8, 3, 384, 640),
        (8, 3, 640, 960),
    )
    (span,) = profile([image(None, None, None, 3)], expected)  # uint8 pixels, colours last
    assert span.largest == (8, 640, 960, 3)


def test_fixed_sizes_stay():
    (span,) = profile([image(1, 3, 256, 192)], section(model_input_size=[192, 256]))
    assert span.smallest == span.tuned == span.largest == (1, 3, 256, 192)
    assert span.free() == (1, 3, 256, 192)


def test_what_is_no_image_has_a_batch_only():
    (span,) = profile([image(None, 32, 17, 9, name="persons")], section(max_batch=8))
    assert (span.smallest, span.largest) == ((1, 32, 17, 9), (8, 32, 17, 9))


@pytest.mark.parametrize(
    ("spec", "expected", "message"),
    [
        (image(16, 3, 640, 640), {}, r"exported for 16; .*set min_batch, opt_batch and max_batch"),
        (image(1, 3, 640, 640), {"min_batch": 2}, "exported for 1"),
        (image(None, 3, 416, 416), {}, r"height .*\(640\), got a file with the fixed height 416"),
        (image(None, 3, 640, 416), {}, r"width .*\(640\), got a file with the fixed width 416"),
        (
            image(None, 3, 640, 640),
            {"max_input_size": [960, 640]},
            r"width .*\(640..960\), got a file with the fixed width 640",
        ),
        (image(None, None, 640, 640), {}, r"on axes \[1\]"),
        (image(None, None, 17, 9), {}, r"on axes \[1\]"),
        (image(None, 3, None), {}, r"on axes \[2\]"),
        (image(), {}, "with a batch axis, got a single number"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(spec, expected, message):
    with pytest.raises(ModelError, match=message):
        profile([spec], section(**expected))


sizes = st.integers(1, 64).map(lambda n: n * 32)


@given(
    st.lists(st.integers(1, 256), min_size=3, max_size=3).map(sorted),
    st.lists(sizes, min_size=3, max_size=3).map(sorted),
    st.lists(sizes, min_size=3, max_size=3).map(sorted),
)
def test_the_rules_of_tensorrt_hold(batch, widths, heights):
    names = ("min_input_size", "model_input_size", "max_input_size")
    expected = dict(zip(names, zip(widths, heights, strict=True), strict=True))
    expected |= dict(zip(("min_batch", "opt_batch", "max_batch"), batch, strict=True))
    (span,) = profile([image(None, 3, None, None)], section(**expected))
    for low, tuned, high in zip(span.smallest, span.tuned, span.largest, strict=True):
        assert 0 <= low <= tuned <= high
    assert inside(span.smallest, span)
    assert inside(span.tuned, span)
    assert inside(span.largest, span)
    assert not inside((span.largest[0] + 1, *span.largest[1:]), span)


# --- inputs of a run ---------------------------------------------------------------

SPEC = image(None, 3, 64, 64)
SPAN = ShapeRange("input", (1, 3, 64, 64), (4, 3, 64, 64), (8, 3, 64, 64))


@pytest.mark.parametrize("batch", [1, 5, 8])
def test_inputs_that_fit_pass(batch):
    check_feeds({"input": np.zeros((batch, 3, 64, 64), np.float32)}, [SPEC], [SPAN])


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, r"expected inputs \['input'\], got \[\]"),
        ({"x": np.zeros(1)}, r"got \['x'\]"),
        ({"input": np.zeros((1, 3, 64, 64))}, "expected float32, got float64"),
        ({"input": np.zeros((1, 3, 64, 64), np.float16)}, "expected float32, got float16"),
        (
            {"input": np.zeros((9, 3, 64, 64), np.float32)},
            r"in \(1,3,64,64\)..\(8,3,64,64\), .* got \(9,3,64,64\); .*deploy\.tensorrt",
        ),
        ({"input": np.zeros((0, 3, 64, 64), np.float32)}, r"got \(0,3,64,64\)"),
        ({"input": np.zeros((1, 3, 64, 96), np.float32)}, r"got \(1,3,64,96\)"),
        ({"input": np.zeros((3, 64, 64), np.float32)}, r"got \(3,64,64\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(feeds, message):
    with pytest.raises(ModelError, match=message):
        check_feeds(feeds, [SPEC], [SPAN])


def test_the_smallest_maximum_of_all_inputs_counts():
    other = ShapeRange("mask", (1, 1), (1, 1), (4, 1))
    assert most_items([SPAN], None) == 8
    assert most_items([SPAN, other], 4) == 4
    assert most_items([SPAN, ShapeRange("scale", (), (), ())], 8) == 8
    with pytest.raises(ModelError, match=r"expected an engine for batches of 5, got .* at most 4"):
        most_items([SPAN, other], 5)


@pytest.mark.parametrize("size", [(64, 64), (65, 64), (64, 63), (96, 96)])
def test_the_configs_input_size_must_be_in_the_engine(size):
    span = ShapeRange("input", (1, 3, 64, 64), (4, 3, 64, 64), (8, 3, 64, 96))
    if size in {(64, 64), (65, 64)}:
        check_size([SPEC], [span], size)
        return
    with pytest.raises(ModelError, match=r"expected \(64, 64\) to \(96, 64\) \(width, height\)"):
        check_size([SPEC], [span], size)


def test_what_is_no_image_has_no_input_size():
    span = ShapeRange("persons", (1, 32, 17, 9), (8, 32, 17, 9), (8, 32, 17, 9))
    check_size([image(None, 32, 17, 9, name="persons")], [span], (640, 640))


# --- buffers -----------------------------------------------------------------------


def test_the_buffers_of_a_batch():
    specs = [
        TensorSpec("dets", (None, 100, 5), "tensor(float)"),
        TensorSpec("keypoints", (None, 100, 17, 3), "tensor(float16)"),
        TensorSpec("labels", (None, 100), "tensor(int64)"),
        TensorSpec("total", (), "tensor(int32)"),
    ]
    shapes = {"dets": (8, 100, 5), "keypoints": (8, 100, 17, 3), "labels": (8, 100), "total": ()}
    buffers = plan(specs, shapes)
    assert buffers[0] == Buffer("dets", (8, 100, 5), np.dtype(np.float32))
    assert [buffer.nbytes for buffer in buffers] == [16_000, 81_600, 6_400, 4]
    for buffer in buffers:
        assert buffer.nbytes == np.empty(buffer.shape, buffer.dtype).nbytes


def test_an_output_that_only_the_data_sizes_has_no_buffer_beforehand():
    specs = [image(None, None, 5, name="dets"), image(None, 1, name="count")]
    assert [b.name for b in plan(specs, {"dets": (2, -1, 5), "count": (2, 1)})] == ["count"]


def test_nobody_in_the_picture_is_an_empty_buffer():
    (buffer,) = plan([image(None, None, 5, name="dets")], {"dets": (2, 0, 5)})
    assert (buffer.shape, buffer.nbytes) == ((2, 0, 5), 0)


def test_elements_that_numpy_does_not_have_are_refused():
    with pytest.raises(ModelError, match=r"got tensor\(bfloat16\); export"):
        plan([TensorSpec("x", (1,), "tensor(bfloat16)")], {"x": (1,)})


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_memory_grows_and_never_shrinks(needs):
    held = 0
    for needed in needs:
        now = capacity(held, needed)
        assert now >= max(held, needed, 1)
        assert now == held or now < needed + 257
        held = now
    assert capacity(held, max(needs)) == held


def test_a_static_batch_is_one_that_the_engine_was_built_for():
    span = ShapeRange("input", (1, 3, 64, 64), (4, 3, 64, 64), (8, 3, 64, 64))
    spec = TensorSpec("input", span.free(), "tensor(float)")
    assert static_inputs((spec,), [span], None) == (spec,)
    (fixed,) = static_inputs((spec,), [span], 6)
    assert fixed.shape == (6, 3, 64, 64)
    for batch in (0, 9):
        with pytest.raises(ModelError, match=r"static_batch: .*\(1,3,64,64\)..\(8,3,64,64\)"):
            static_inputs((spec,), [span], batch)
