"""How many cameras one machine serves live: frames a second, lag, CPU time.

    python -m benchmarks.live_cameras [--cameras 1 2 4] [--seconds 40] [--fps 10] [--null]

Each camera is a clip of fights that a real RTSP server of another process plays without an end; all
else is mode inference.realtime's: one pose network, tracks, both classifiers, rules. The lag of a
window is the time from the capture of the frame that completes it until it is classified. The
server's own work is not counted, though it takes part of a core. With ``--null`` a null network
gives recorded poses: what remains is the work of everything else.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

from benchmarks._command import ASSETS, ROOT, Parser, existing_file, one_line_errors, positive
from benchmarks._live import (
    NullPose,
    late_drops,
    record_poses,
    running,
    serve_rtsp,
    write_clip,
)
from benchmarks._needs import need
from recognizer.config.alerts import RulesConfig
from recognizer.config.live import CameraConfig
from recognizer.live.analysis import CameraWindow, SharedPose, analyses_of
from recognizer.live.engine import CameraState, Stage
from recognizer.live.events import Outcome
from recognizer.live.rules import CameraRules, Scene
from recognizer.live.values import CameraStatus, Gap
from recognizer.models import open_classifier, open_pose_model
from recognizer.pipeline import PipelineSettings

CLIP = ASSETS / "fight_surv" / "Fight" / "fi005.mp4"
_CLIP_FPS = 25.0
_SETTLE_S = 5.0  # until the windows come


@dataclass
class Figures:
    """A recorder that keeps lags."""

    lags: list[tuple[float, float]] = field(default_factory=list)  # when, seconds

    def outcomes(self, found: Sequence[Outcome]) -> None:
        """Keep nothing."""

    def gap(self, gap: Gap, start_utc_s: float, end_utc_s: float | None) -> None:
        """Keep nothing."""

    def window(self, window: CameraWindow) -> None:
        """Keep nothing."""

    def lag(self, stage: Stage, seconds: float) -> None:
        """Keep the lag of windows."""
        if stage == "score":
            self.lags.append((time.monotonic(), seconds))


def measure(url: str, pose: SharedPose, cameras: int, fps: float, seconds: float) -> str:
    """Run live detection on so many cameras; return a row of the table."""
    classifiers = [open_classifier(f"{name}.onnx", threads=1) for name in ("fight", "falldown")]
    names = [f"camera {i}" for i in range(cameras)]
    settings = PipelineSettings(stride_s=0.5, look_ahead_s=0.0, threads=1)
    analyses = analyses_of(names, classifiers, settings, pose.kind)
    states = {
        name: CameraState(
            analyses[name],
            {
                c.service: CameraRules(Scene(name), c.service, c.classes, RulesConfig())
                for c in classifiers
            },
        )
        for name in names
    }
    figures = Figures()
    configs = [CameraConfig(name=name, url=url, fps=fps) for name in names]
    with running(configs, pose, states, figures) as fleet:
        time.sleep(_SETTLE_S)
        before, cpu, start = fleet.status(), time.process_time(), time.monotonic()
        time.sleep(seconds)
        after, used = fleet.status(), time.process_time() - cpu
    lags = [lag for at, lag in figures.lags if at >= start]
    return row(before, after, seconds, used, lags)


def row(
    before: Sequence[CameraStatus],
    after: Sequence[CameraStatus],
    seconds: float,
    cpu_s: float,
    lags: Sequence[float],
) -> str:
    """Return a row: cameras, frames a second each, share dropped late, lag, cores used."""
    read = sum(b.frames - a.frames for a, b in zip(before, after, strict=True))
    late = sum(late_drops(b) - late_drops(a) for a, b in zip(before, after, strict=True))
    taken = read - late
    middle, high = np.quantile(lags, (0.5, 0.95)) if lags else (np.nan, np.nan)
    return (
        f"| {len(after)} | {taken / seconds / len(after):.1f} | {late / max(read, 1):.2f} | "
        f"{middle:.2f}, {high:.2f} | {cpu_s / seconds:.2f} |"
    )


@one_line_errors
def main() -> None:
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cameras", type=positive, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=positive, default=40)
    parser.add_argument("--fps", type=float, default=10.0, help="asked of each camera")
    parser.add_argument("--null", action="store_true", help="recorded poses: no network runs")
    parser.add_argument("--clip", type=Path, default=CLIP)
    given: argparse.Namespace = parser.parse_args()
    need(peers=["aio_rtsp_toolkit"], files=[given.clip])
    existing_file(str(given.clip))
    model = open_pose_model(ROOT / "samples/models/small_pose.onnx", threads=1)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip([(given.clip, given.seconds + 3 * _SETTLE_S)], clip, _CLIP_FPS)
        recorded = record_poses(model, clip, given.fps) if given.null else []
        receiver, sender = context.Pipe(duplex=False)
        server = context.Process(target=serve_rtsp, args=(Path(folder), sender), daemon=True)
        server.start()
        url = f"rtsp://127.0.0.1:{receiver.recv()}/clip.mp4"
        print("| cameras | frames/s each | dropped late | lag: median, 95 % (s) | cores |")
        print("|---" * 5 + "|")
        for number in given.cameras:
            pose = NullPose(model, recorded) if given.null else SharedPose(model)
            print(measure(url, pose, number, given.fps, given.seconds), flush=True)
        server.kill()


if __name__ == "__main__":
    main()
