"""Compare forms of one trained pose network: precision, runtime, input shape and batch.

    python -m benchmarks.pose_precision [--model samples/models/small_pose.onnx]

Takes a file in RTMO's contract with free batch and sides. Each form is run on the pictures of COCO
val2017, for AP and for its distance from single precision on a square input, and on frames of a
clip, for its CPU time; forms take turns there. int8: convolutions in 8 bits, per channel,
calibrated on COCO train2017; fp16: convolutions in half precision, which a CPU computes in single.
The forms of OpenVINO need its environment (`make setup RUNTIME=openvino`).
"""

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import count, islice
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from benchmarks._command import (
    ASSETS,
    ROOT,
    existing_file,
    existing_folder,
    one_line_errors,
    positive,
)
from benchmarks._images import read_image
from benchmarks._needs import need
from benchmarks._turns import race
from benchmarks.coco_ap import average_precision, detections, read_coco
from deploy.pose_parity import compare
from deploy.quantize import CalibrationInputs, quantize
from recognizer.backends.network import ModelError
from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import OnnxPoseConfig, PoseEstimationConfig
from recognizer.pose.detector import LetterboxBatch
from recognizer.pose.estimator import PoseModel, build_pose_model
from recognizer.pose.rtmo import RtmoPose
from recognizer.types import FloatArray, Poses
from recognizer.video.array_image import ArrayImage
from recognizer.video.reader import VideoReader

Models = dict[str, PoseModel]
SQUARE = (640, 640)
REFERENCE = "fp32, 640x640"
AT_ONCE = 8
_EDGE = 0.02  # of a score beside the threshold: rounding decides


def single_precision(model: Path, folder: Path) -> Path:
    """Write a file whose weights are stored as float32; return its path."""
    path = folder / "fp32.onnx"
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return path


def inputs(folder: Path, number: int) -> Iterator[FloatArray]:
    """Yield letterboxed pictures of a folder (1, 3, 640, 640)."""
    letterbox = LetterboxBatch(SQUARE)
    for path in sorted(folder.glob("*.jpg"))[:number]:
        yield letterbox.fill([ArrayImage(read_image(path))])[0].copy()


def half_precision(single: Path, path: Path) -> Path:
    """Write the convolutions in half precision, all else in single; return the path."""
    model = onnx.load(str(single))
    values = {value.name: value for value in model.graph.initializer}
    nodes = []
    for i, node in enumerate(model.graph.node):
        if node.op_type != "Conv":
            nodes.append(node)
            continue
        for name in node.input[1:]:
            array = numpy_helper.to_array(values[name]).astype(np.float16)
            values[name].CopyFrom(numpy_helper.from_array(array, name))
        before, after = f"half_{i}", f"half_out_{i}"
        cast = onnx.helper.make_node
        nodes.append(cast("Cast", [node.input[0]], [before], to=onnx.TensorProto.FLOAT16))
        nodes.append(node)
        nodes.append(cast("Cast", [after], [node.output[0]], to=onnx.TensorProto.FLOAT))
        node.input[0], node.output[0] = before, after
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(path))
    return path


def build(path: Path, size_wh: tuple[int, int] | None, **options: str) -> PoseModel:
    """Return a model of one thread."""
    section = OnnxPoseConfig.model_validate({"model_input_size": size_wh, "threads": 1, **options})
    return build_pose_model(PoseEstimationConfig(kind="rtmo", onnx=section), {"pose": path})


def forms(model: Path, coco: Path, folder: Path) -> Models:
    """Return the models to compare, by name."""
    single = single_precision(model, folder)
    found = {REFERENCE: build(model, SQUARE), "fp32, shape of the picture": build(model, None)}
    found["fp16"] = build(half_precision(single, folder / "fp16.onnx"), SQUARE)
    for name, layers in (("int8", ("",)), ("int8, detector alone", ("/detector/",))):
        path = folder / f"{len(found)}_int8.onnx"
        quantize(single, path, CalibrationInputs(inputs(coco / "train2017", 64)), layers)
        found[name] = build(path, SQUARE)
    if "OpenVINOExecutionProvider" in ort.get_available_providers():
        for precision in ("f32", "bf16"):
            found[f"OpenVINO {precision}"] = build(
                model, SQUARE, provider="openvino", openvino_precision=precision
            )
    return found


def accuracy(models: Models, coco_dir: Path, pictures: int | None) -> dict[str, str]:
    """Return AP of each model, and how far it is from the reference."""
    coco = read_coco(coco_dir, "val2017")
    ids = list(coco.imgs)[:pictures]
    files = [coco_dir / "val2017" / coco.imgs[i]["file_name"] for i in ids]
    images = [ArrayImage(read_image(file)) for file in files]
    seen: dict[str, Sequence[Poses]] = {
        name: [model([image])[0] for image in images] for name, model in models.items()
    }
    lines = {}
    for name, found in seen.items():
        rows = [row for i, poses in zip(ids, found, strict=True) for row in detections(poses, i)]
        parity = compare(seen[REFERENCE], found, threshold=0.3, edge=_EDGE)
        lines[name] = (
            f"{average_precision(coco, rows, ids):.3f} | {parity.median_px:.2f}, "
            f"{parity.p99_px:.1f} | {parity.only_one} of {parity.people + parity.only_one}"
        )
    return lines


def in_batches(model: Path) -> PoseModel:
    """Return a model that runs several pictures at once, which stage 1 does on a GPU alone."""
    network = OnnxNetwork(model, OnnxPoseConfig(threads=1))
    network.on_cpu = False
    return RtmoPose(network, OnnxPoseConfig(), SQUARE)


def cost(
    models: Models, together: PoseModel, clip: Path, frames: int, rounds: int
) -> dict[str, float]:
    """Return the CPU-ms a frame of each model, and of one that gets frames together."""
    with VideoReader(clip, sample_fps=2.0) as reader:
        images = [frame.image for frame in islice(reader, frames)]
    if not images:
        raise ModelError(f"{clip}: expected frames, found none")
    numbers = {name: count() for name in models}

    def one(name: str, model: PoseModel) -> None:
        model([images[next(numbers[name]) % len(images)]])

    calls = {name: partial(one, name, model) for name, model in models.items()}
    times = race(calls, rounds * len(images), warm_up=2)
    batch = [images[i % len(images)] for i in range(AT_ONCE)]
    at_once = race({"": lambda: together(batch)}, rounds, warm_up=1)
    taken = {name: 1e3 * cpu for name, (cpu, _) in times.items()}
    return taken | {f"fp32, {AT_ONCE} at once": 1e3 * at_once[""][0] / AT_ONCE}


@one_line_errors
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--model", type=existing_file, default=ROOT / "samples/models/small_pose.onnx"
    )
    parser.add_argument("--coco", type=existing_folder, default=ASSETS / "coco")
    parser.add_argument("--clip", type=Path, default=ASSETS / "fight_surv" / "Fight" / "fi005.mp4")
    parser.add_argument("--pictures", type=positive, help="the first of COCO val2017 only")
    parser.add_argument("--frames", type=positive, default=8)
    parser.add_argument("--rounds", type=positive, default=3)
    given = parser.parse_args()
    need(files=[given.coco, given.clip])
    with tempfile.TemporaryDirectory() as folder:
        models = forms(given.model, given.coco, Path(folder))
        rows = accuracy(models, given.coco, given.pictures)
        taken = cost(models, in_batches(given.model), given.clip, given.frames, given.rounds)
    print(
        "| form | AP | keypoints from the first: median, 99 % (px) | people of one alone | CPU-ms |"
    )
    print("|---" * 5 + "|")
    for name, ms in taken.items():
        share = ms / taken[REFERENCE]
        print(f"| {name} | {rows.get(name, ' |  | ')} | {ms:.0f} ({share:.2f}) |")


if __name__ == "__main__":
    main()
