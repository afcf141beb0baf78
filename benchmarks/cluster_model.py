"""Model a large cluster on paper: rates, bytes, requests, cost, and what is full first.

    python -m benchmarks.cluster_model
    python -m benchmarks.cluster_model --nodes 10 --video-s 10 --price-gpu-hour 2.5

Videos in object storage, stage 1 by Ray, results in a shared folder. Every number that goes in is
named, printed with where it is from, and can be changed. No network runs and nothing is measured:
the figures that were measured name the command that measures them again.
"""

import argparse
import math
from dataclasses import dataclass, field, fields
from typing import Any

from benchmarks._command import Parser, one_line_errors

_MIB, _HOUR_S = 2**20, 3600


def _of(value: float, unit: str, source: str) -> Any:
    return field(default=value, metadata={"unit": unit, "source": source})


def _assumed(value: float, unit: str, why: str) -> Any:
    return _of(value, unit, f"ASSUMED: {why}")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the model is made of; the sources are in each field's metadata."""

    nodes: float = _assumed(100, "", "the cluster that is asked about")
    gpus_a_node: float = _assumed(8, "", "the cluster that is asked about")
    cpus_a_node: float = _assumed(128, "", "cores of a node with 8 GPUs")
    node_gbit_s: float = _assumed(25, "Gbit/s", "network of a node")
    hours: float = _assumed(1000, "h", "footage, for cost and bytes")
    video_s: float = _assumed(60, "s", "length of a video")
    fps: float = _assumed(25, "1/s", "footage; all frames are read")
    mbit_s: float = _assumed(2, "Mbit/s", "footage, 1280x720")
    gpu_frames_s: float = _of(
        740, "1/s", "RTMO-l, 1280x720, H200, from memory to poses: docs/gpu/nvidia_h200/speed.md"
    )
    cpu_ms_a_frame: float = _of(
        4.25, "ms", "decoding and all but networks, 720p: benchmarks.frame_overhead --rounds 1"
    )
    gpus_a_worker: float = _assumed(0.25, "", "annotation.ray_num_gpus: 4 workers feed a GPU")
    driver_ms_a_job: float = _of(
        0.54, "ms", "CPU time of the driver: benchmarks.ray_executor schedule"
    )
    reports_s: float = _of(1, "1/s", "of a worker: recognizer/runs/cluster/schedule.py")
    driver_ms_a_report: float = _assumed(0.54, "ms", "a report costs the driver what a job does")
    driver_mib: float = _of(132, "MiB", "memory: benchmarks.restart_scan --videos 2000")
    driver_kib_a_video: float = _of(1.7, "KiB", "the same, --videos 100000")
    restart_us_a_video: float = _of(40, "us", "CPU time: benchmarks.restart_scan")
    list_us_a_key: float = _of(5.2, "us", "CPU time: docs/scale.md, 1,000,000 keys in 5.2 s")
    page_keys: float = _of(1000, "", "recognizer/storage/objects.py")
    page_s: float = _assumed(0.1, "s", "latency of a page of the list; one after another")
    part_mib: float = _of(16, "MiB", "recognizer/storage/objects.py")
    result_kb_a_frame: float = _of(
        0.63, "kB", "make test-image TARGET=ray: 6 clips, 313 frames, 197,857 B"
    )
    folder_ops_a_video: float = _of(
        9,
        "",
        "names: scratch made and removed, result made, renamed, looked at: objects.py, "
        "artifacts.py, journal.py",
    )
    store_gets_s: float = _assumed(5500, "1/s", "GETs of a prefix that a store takes, as S3 names")
    folder_ops_s: float = _assumed(20000, "1/s", "names that the shared folder's server handles")
    folder_gb_s: float = _assumed(10, "GB/s", "what the shared folder writes")
    network_file_mb: float = _assumed(180, "MB", "RTMO-l in ONNX, sent to nodes that lack it")
    price_gpu_hour: float = _assumed(0, "", "price of a GPU for an hour; 0: not counted")
    price_gb: float = _assumed(0, "", "price of a GB that leaves the store")
    price_1000_gets: float = _assumed(0, "", "price of 1,000 GETs; a page of the list is one")
    price_gb_month: float = _assumed(0, "", "price of a GB of results for a month")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the cluster: what it is asked for and what it has, in one unit."""

    name: str
    demand: float
    capacity: float
    unit: str
    shared: bool = True
    """There is one for all nodes."""

    @property
    def share(self) -> float:
        """Demand over capacity: at 1 it is full."""
        return self.demand / self.capacity


@dataclass(frozen=True, slots=True)
class Model:
    """The cluster at work, all GPUs or all CPUs busy."""

    p: Parameters

    @property
    def frames_s(self) -> float:
        """Frames a second of all nodes, by GPUs or by CPUs, whichever are fewer."""
        by_cpu = self.p.cpus_a_node * 1e3 / self.p.cpu_ms_a_frame
        return self.p.nodes * min(self.p.gpus_a_node * self.p.gpu_frames_s, by_cpu)

    @property
    def footage_s(self) -> float:
        """Seconds of footage in a second."""
        return self.frames_s / self.p.fps

    @property
    def videos_s(self) -> float:
        """Videos a second."""
        return self.footage_s / self.p.video_s

    @property
    def workers(self) -> float:
        """Workers of all nodes."""
        return self.p.nodes * self.p.gpus_a_node / self.p.gpus_a_worker

    @property
    def videos(self) -> float:
        """Videos in the footage."""
        return self.p.hours * _HOUR_S / self.p.video_s

    @property
    def gets_a_video(self) -> int:
        """Parts in which a video is fetched."""
        return math.ceil(self.p.mbit_s * 1e6 / 8 * self.p.video_s / (self.p.part_mib * _MIB))

    @property
    def read_gb(self) -> float:
        """GB of the footage."""
        return self.p.hours * _HOUR_S * self.p.mbit_s / 8e3

    @property
    def results_gb(self) -> float:
        """GB of stage 1's results of the footage."""
        return self.p.hours * _HOUR_S * self.p.fps * self.p.result_kb_a_frame / 1e6

    @property
    def gpu_hours(self) -> float:
        """GPUs are paid for while they wait for CPUs."""
        return self.p.hours / self.footage_s * self.p.nodes * self.p.gpus_a_node

    @property
    def gets(self) -> float:
        """Requests for the footage, pages of the list included."""
        return self.videos * self.gets_a_video + math.ceil(self.videos / self.p.page_keys)

    def parts(self) -> list[Part]:
        """Return what may be full, the fullest first."""
        p, gb_s = self.p, self.footage_s * self.p.mbit_s / 8e3
        job_s, report_s = p.driver_ms_a_job / 1e3, p.driver_ms_a_report / 1e3
        driver = self.videos_s * job_s + self.workers * p.reports_s * report_s
        written_gb_s = gb_s + self.frames_s * p.result_kb_a_frame / 1e6
        node_frames_s = self.frames_s / p.nodes
        gpu_frames_s = p.gpus_a_node * p.gpu_frames_s
        cores = node_frames_s * p.cpu_ms_a_frame / 1e3
        # A video comes from the store, goes to the scratch folder and is read from there.
        gbit_s = 8 * (2 * gb_s + written_gb_s) / p.nodes
        found = [
            Part("GPUs of a node", node_frames_s, gpu_frames_s, "frames/s", shared=False),
            Part("CPUs of a node", cores, p.cpus_a_node, "cores", shared=False),
            Part("network of a node", gbit_s, p.node_gbit_s, "Gbit/s", shared=False),
            Part("driver", driver, 1, "core"),
            Part("object store", self.videos_s * self.gets_a_video, p.store_gets_s, "GET/s"),
            Part("shared folder", self.videos_s * p.folder_ops_a_video, p.folder_ops_s, "names/s"),
            Part("shared folder", written_gb_s, p.folder_gb_s, "GB/s"),
        ]
        return sorted(found, key=lambda part: -part.share)


def report(p: Parameters) -> str:
    """Return the model as Markdown."""
    model = Model(p)
    lines = [
        f"{p.nodes:g} nodes of {p.gpus_a_node:g} GPUs, {model.workers:,.0f} workers: "
        f"{model.frames_s:,.0f} frames/s, {model.footage_s:,.0f} times real time, "
        f"{model.videos_s:,.0f} videos/s; {p.hours:,.0f} h of video in "
        f"{p.hours * _HOUR_S / model.footage_s:,.0f} s",
        "",
        "| part | asked for | has | share | full at nodes |",
        "|---|---:|---:|---:|---:|",
        *(_row(part, p.nodes) for part in model.parts()),
        "",
        *_amounts(model),
        "",
        _cost(model),
    ]
    return "\n".join(lines)


def _row(part: Part, nodes: float) -> str:
    full = f"{nodes / part.share:,.0f}" if part.shared else "any"
    demand, capacity = _short(part.demand), _short(part.capacity)
    amounts = f"{demand} {part.unit} | {capacity} {part.unit}"
    return f"| {part.name} | {amounts} | {part.share:.0%} | {full} |"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _amounts(model: Model) -> list[str]:
    p, videos = model.p, model.videos
    pages = math.ceil(videos / p.page_keys)
    list_s = pages * p.page_s + videos * p.list_us_a_key / 1e6
    memory = p.driver_mib + videos * p.driver_kib_a_video / 1024
    return [
        f"- list: {videos:,.0f} videos in {pages:,} pages, {list_s:.1f} s",
        f"- schedule: {model.videos_s:,.0f} jobs/s and {model.workers * p.reports_s:,.0f} "
        "reports/s at the driver",
        f"- driver: {memory:,.0f} MiB; restart after the end "
        f"{videos * p.restart_us_a_video / 1e6:.1f} s of CPU",
        f"- start: the network file to nodes that lack it, {p.nodes * p.network_file_mb / 1e3:.3g} "
        "GB in all",
        f"- object store: {model.videos_s * model.gets_a_video:,.0f} GET/s, "
        f"{model.footage_s * p.mbit_s / 8e3:.2f} GB/s; {model.gets:,.0f} requests, "
        f"{model.read_gb:,.0f} GB in all",
        f"- results: {model.results_gb:,.1f} GB",
    ]


def _cost(model: Model) -> str:
    p = model.p
    counted = (
        (model.gpu_hours, "price_gpu_hour", p.price_gpu_hour),
        (model.read_gb, "price_gb", p.price_gb),
        (model.gets / 1e3, "price_1000_gets", p.price_1000_gets),
        (model.results_gb, "price_gb_month", p.price_gb_month),
    )
    formula = " + ".join(f"{amount:,.4g} {name}" for amount, name, _ in counted)
    total = sum(amount * price for amount, _, price in counted)
    return f"cost of {p.hours:,.0f} h = {formula}" + (f" = {total:,.2f}" if total else "")


def sources(p: Parameters) -> str:
    """Return every parameter with its value and where that is from, as Markdown."""
    lines = ["| parameter | value | from |", "|---|---:|---|"]
    for one in fields(p):
        value = f"{getattr(p, one.name):g} {one.metadata['unit']}".rstrip()
        changed = getattr(p, one.name) != one.default
        source = "command line" if changed else one.metadata["source"]
        lines.append(f"| `{one.name}` | {value} | {source} |")
    return "\n".join(lines)


def _amount(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text}")
    return value


@one_line_errors
def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for one in fields(Parameters):
        flag = f"--{one.name.replace('_', '-')}"
        parser.add_argument(flag, type=_amount, default=one.default, help=one.metadata["source"])
    p = Parameters(**vars(parser.parse_args()))
    zero = [one.name for one in fields(p) if not getattr(p, one.name)]
    wrong = [name for name in zero if not name.startswith("price_")]
    if wrong:
        parser.error(f"--{wrong[0].replace('_', '-')}: expected a number above 0, got 0")
    print(f"{report(p)}\n\n{sources(p)}")


if __name__ == "__main__":
    main()
