"""A small data set made on the spot: clips with a moving dot, and a network that finds it."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests import networks
from tests.video.streams import add_video

SIZE_WH = (96, 64)
FPS = 20


def dot_place(t: int, seed: int) -> tuple[int, int]:
    """Return where the dot of clip ``seed`` is in frame ``t``, pixels."""
    return 12 + (2 * t + 7 * seed) % 70, 14 + (t + 5 * seed) % 36


def write_clip(path: Path, seed: int, frames: int = 24, codec: str = "libx264") -> None:
    """Write a clip with one bright blue dot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = add_video(container, codec, FPS)
        stream.width, stream.height, stream.pix_fmt = *SIZE_WH, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        for t in range(frames):
            image = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
            x, y = dot_place(t, seed)
            image[y - 3 : y + 4, x - 3 : x + 4, 0] = 255
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = t
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def make_dataset(folder: Path, *, clips: int = 3, score: float = 0.9, frames: int = 24) -> Path:
    """Write ``clips`` clips per class, a dot-finding RTMO network, and a config; return it."""
    for i in range(clips):
        write_clip(folder / "data/Fight" / f"f{i}.mp4", i, frames)
        write_clip(folder / "data/NonFight" / f"n{i}.mp4", 50 + i, frames)
    folder.mkdir(parents=True, exist_ok=True)
    networks.rtmo(folder / "dot.onnx", input_wh=SIZE_WH, score=score)
    config = folder / "config.yaml"
    config.write_text(
        "annotation: {input: data, dataset: dots, output_dir: out, workers: 2}\n"
        "models:\n"
        "  weights_dirs: [.]\n"
        "  pose_estimation: {onnx: {model_path: dot.onnx}}\n"
        "tracking: {min_box_area: 1.0}\n"
    )
    return config


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder, the lock and the journal aside."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in {".lock", ".journal"}
    }
