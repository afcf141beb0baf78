"""Measure foreground self-distillation: five kinds of SDPose-S-V1, teachers detached or not.

    python -m benchmarks.gpu.fsd --seconds 390 --out output/gpu --device cuda:0

Nine trainings go on at the same time, in lock-step: each step, all of them learn from the very
same batch. Their schedules run by the share of the time that is over, as the configs' by epochs
(x 0.1 at 200 and 260 of 300; the dynamic weights grow from 50 to 150), so all nine end together,
after equally many steps. If none has left the plateau of near-zero heatmaps after ``--patience``
of the time, the record says so and the rest of the time goes to another start. No weights are
kept. The question: do distillation losses run away where the teacher gets no gradient? On an H200
they did (docs/gpu/nvidia_h200/fsd.md), so the shipped configs set ``detach_teacher=False``.
"""

import json
import logging
import signal
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.gpu import fsd_batch, fsd_report, fsd_run, fsd_score
from benchmarks.gpu._part import Options, Results, parse
from benchmarks.gpu.fsd_plan import Plan, plan_of
from benchmarks.gpu.fsd_record import RESERVE, RUNNING, STOPPED, Clock, Record, is_whole
from benchmarks.gpu.fsd_run import KINDS, Run

PART = "fsd"
EVALUATIONS = 8
CHUNK = 128  # people in a batch of the evaluation
LEAST = 20.0  # seconds: no training is begun for less


@dataclass
class SharedData:
    """What all runs share."""

    train: Any
    measured: dict[str, Any]  # name -> People
    batch: Any  # what a step reads
    device: torch.device
    chunks: dict[str, list[Any]] = field(default_factory=dict)  # name -> images

    def images(self, name: str) -> list[Any]:
        """Return what the network sees of measured people, (B, 3, 256, 192) each; kept."""
        if name not in self.chunks:
            people = self.measured[name]
            matrices = people.matrices[0].split(CHUNK)
            pictures = people.pictures.split(CHUNK)
            self.chunks[name] = [
                fsd_batch.normalise(fsd_batch.warp(*pair))
                for pair in zip(pictures, matrices, strict=True)
            ]
        return self.chunks[name]

    def fill(self, batch: Any) -> None:
        """Let the next step read another batch."""
        for name in ("images", "heatmaps", "weights"):
            getattr(self.batch, name).copy_(getattr(batch, name))

    def empty_loss(self) -> Any:
        """Return what the heatmap loss of empty heatmaps is on the current batch (2 cycles)."""
        return 2 * (self.batch.heatmaps**2 * self.batch.weights[..., None, None]).mean()


# --- preparation -----------------------------------------------------------------------------


def prepare(options: Options, plan: Plan) -> SharedData:
    """Read the packed data onto the device."""
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = device.type == "cuda"
    limit = 3 * plan.batch if options.tiny else None
    few = 1 if options.tiny else None
    folder = options.data / PART
    train = fsd_batch.load(folder / "train.npz", device, limit)
    measured = {
        name: fsd_batch.load(folder / f"{name}.npz", device, few) for name in ("lspet", "coco")
    }
    return SharedData(train, measured, next(fsd_batch.batches(train, plan.batch, 0))[1], device)


def build_runs(shared: SharedData, plan: Plan, results: Results) -> list[Run]:
    """Build the nine, each with its graph.

    One that cannot be built is named in the results and left out; one whose graph cannot be
    recorded is named too and runs without.
    """
    built = []
    for kind in KINDS:
        if plan.only and kind.name not in plan.only:
            continue
        try:
            each = Run(kind, plan.recipe, shared.batch)
            each.train(True)
            if plan.graph:
                record_graph(each, results)
            built.append(each)
        except Exception as error:  # noqa: BLE001  # the others are still to be measured
            note(results, f"{kind.name}: left out: {error!r}")
            traceback.print_exc()
    return built


def record_graph(each: Run, results: Results) -> None:
    """Record a run's graph, or let it run without. Raises where memory is short."""
    try:
        each.capture()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever capturing or compiling may raise
        note(results, f"{each.kind.name}: no graph: {error!r}")
        traceback.print_exc()
        each.run_plainly()


def note(results: Results, text: str) -> None:
    """Add a line to the part's list of faults."""
    results.put("faults", [*results.values.get("faults", []), text[:600]])


def wait(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def launch(runners: list[Run]) -> None:
    """Let all take a step; graphs side by side, each on its own stream, not waited for."""
    recorded = [each for each in runners if each.graph]
    if recorded:
        main = torch.cuda.current_stream()
        ready = main.record_event()
    for each in recorded:
        if each.stream is None or each.done is None:
            raise RuntimeError("expected a run with a CUDA graph to have a stream, found none")
        each.stream.wait_event(ready)
        with torch.cuda.stream(each.stream):
            each.step()
            each.done.record(each.stream)
    for each in runners:
        if not each.graph:
            each.step()


def join(runners: list[Run]) -> None:
    """Let what comes next wait for the graphs."""
    for each in runners:
        if each.graph and each.done is not None:
            torch.cuda.current_stream().wait_event(each.done)


def step_together(runners: list[Run]) -> None:
    """Let all take a step, to its end."""
    launch(runners)
    join(runners)


def measure_steps(shared: SharedData, runners: list[Run], rounds: int) -> dict[str, float]:
    """Return milliseconds of a step: the first alone, without and with its graph; all together."""

    def timed(run: Any) -> float:
        run()
        wait(shared.device)
        begun = time.perf_counter()
        for _ in range(rounds):
            run()
        wait(shared.device)
        return round((time.perf_counter() - begun) / rounds * 1000, 2)

    first = runners[0]
    stream = batches_of(shared, len(shared.batch.images), 1)
    found = {"batch": timed(lambda: shared.fill(next(stream)[1])), "eager": timed(first.compute)}
    if first.graph:
        found["graph"] = timed(lambda: step_together([first]))
    found["together"] = timed(lambda: step_together(runners))
    found["runs"] = len(runners)
    if shared.device.type == "cuda":
        found["peak_GiB"] = round(torch.cuda.max_memory_reserved() / 2**30, 1)
        torch.cuda.empty_cache()
    return found


def batches_of(shared: SharedData, size: int, seed: int) -> Any:
    """Return the endless stream of training batches."""
    return fsd_batch.batches(shared.train, size, seed)


# --- training ----------------------------------------------------------------------------------


def evaluate(shared: SharedData, runner: Run) -> dict[str, float]:
    """Return AP and PCK of a run on what is measured."""
    runner.train(False)
    figures = {}
    for name, people in shared.measured.items():
        decoded = [fsd_batch.decode(runner.heatmaps(images)) for images in shared.images(name)]
        place, scores = (torch.cat(part) for part in zip(*decoded, strict=True))
        matrices = people.matrices[0]
        back = torch.linalg.inv(matrices[:, :, :2]).transpose(1, 2)
        points = (place - matrices[:, None, :, 2]) @ back
        found = points.cpu().numpy(), scores.cpu().numpy()
        for figure, value in fsd_score.figures(*found, people.notes).items():
            figures[f"{name}_{figure}"] = round(value, 4)
    runner.train(True)
    return figures


def train(shared: SharedData, runners: list[Run], plan: Plan, clock: Clock, record: Record) -> Any:
    """Train all runs side by side; yield the progress after each evaluation.

    Who calls may end it there.
    """
    stream = batches_of(shared, len(shared.batch.images), plan.seed)
    empty, step, due = torch.zeros((), device=shared.device), 0, 0.0
    window = 1 if plan.steps and plan.steps < 10 else 10
    epochs, batch = next(stream)
    while (progress := clock.progress(step)) < 1 and not clock.over:
        shared.fill(batch)
        empty += shared.empty_loss()
        for each in runners:
            each.set_progress(step, progress)
        launch(runners)
        record.about |= {"steps": step + 1, "epochs": round(epochs, 2)}
        epochs, batch = next(stream)  # made while they run
        join(runners)
        step += 1
        if step % window == 0:
            runs = {each.kind.name: each.read() for each in runners}
            record.windows.append({"step": step, "empty": empty.item() / window, "runs": runs})
            empty.zero_()
        if progress >= due and record.windows:
            due = (int(progress * EVALUATIONS) + 1) / EVALUATIONS
            evaluate_all(shared, runners, clock, record)
            yield progress
    if record.windows:
        evaluate_all(shared, runners, clock, record)
        if progress >= 1:
            record.about["outcome"] = "finished"
    record.stop()
    yield progress


def evaluate_all(shared: SharedData, runners: list[Run], clock: Clock, record: Record) -> None:
    """Add everyone's figures to the record; let the clock know how long it took."""
    begun = time.monotonic()
    found = {each.kind.name: evaluate(shared, each) for each in runners}
    seconds = time.monotonic() - begun
    clock.keep(seconds)
    step = record.about["steps"]
    record.evaluations.append({"step": step, "seconds": round(seconds, 2), "runs": found})


def train_from(
    start: str,
    options: Options,
    plan: Plan,
    shared: SharedData,
    runners: list[Run],
    results: Results,
) -> Record:
    """Train from a start, as far as the time goes, and write what is seen.

    Raises:
        KeyboardInterrupt: asked to end (SIGTERM, at the part's limit); all of it is written.

    """
    weights = fsd_run.first_weights(start, plan.seed, plan.recipe)
    for each in runners:
        each.reset(weights)
    clock = Clock(options.until, plan.steps)
    about = {"batch": plan.batch, "outcome": RUNNING, "steps": 0, "epochs": 0.0, "seconds": 0.0}
    record = Record([each.kind.name for each in runners], about)

    def write() -> None:
        if not record.evaluations:
            return
        about["seconds"] = round(time.monotonic() - clock.begun, 1)
        results.put(f"{start}, seed {plan.seed}", record.to_json())
        fsd_report.write(options.out, results.values, curves=about["outcome"] != RUNNING)

    try:
        for progress in train(shared, runners, plan, clock, record):
            if start != plan.starts[-1] and progress >= plan.patience:
                record.give_up_if_stuck(progress)
            write()
            if about["outcome"] != RUNNING:
                break
    except KeyboardInterrupt:
        record.stop()
        write()
        raise
    return record


def run_starts(
    options: Options, plan: Plan, shared: SharedData, runners: list[Run], results: Results
) -> bool:
    """Train from each start in turn, until one training is finished or the time is over.

    Returns:
        Whether nothing is left to train; what the time ended is trained anew by a later call.

    """
    for start in plan.starts:
        about = results.values.get(f"{start}, seed {plan.seed}", {})
        if not is_whole(about):
            if options.left - RESERVE < LEAST and not plan.steps:
                return False
            about = train_from(start, options, plan, shared, runners, results).about
        if not is_whole(about):
            return False
        if about["outcome"] == "finished" and not options.tiny:
            break
    return True


def main(argv: list[str] | None = None) -> int:
    """Measure within the time; return 0 where everything ran that the time allowed."""
    plan, rest = plan_of(sys.argv[1:] if argv is None else argv)
    options = parse(__doc__, rest)
    results = Results.open(options, PART)
    if results.values.get("tiny") != options.tiny:  # sizes of a dry run are no measurement
        results.values.clear()
    if "complete" in results:
        return 0
    results.put("tiny", options.tiny)
    if not (options.data / PART / "train.npz").is_file():
        note(results, f"expected {options.data / PART}/train.npz, found none: run the pack first")
        print(results.values["faults"][-1], file=sys.stderr)
        return 1
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return measure(options, plan, results)
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def measure(options: Options, plan: Plan, results: Results) -> int:
    """Build all runs, time a step and train; return 0 unless none could be built."""
    shared = prepare(options, plan)
    notes = json.loads((options.data / PART / "notes.json").read_text(encoding="utf-8"))
    card = torch.cuda.get_device_name() if shared.device.type == "cuda" else "CPU"
    results.put(
        "about",
        {
            "card": card,
            "data": notes,
            "recipe": vars(plan.recipe),
            "torch": torch.__version__,
            "plan": {"batch": plan.batch},
        },
    )
    runners = build_runs(shared, plan, results)
    if not runners:
        return 1
    try:
        rounds = 1 if shared.device.type == "cpu" else 10
        results.put("step_ms", measure_steps(shared, runners, rounds))
        print(json.dumps(results.values["step_ms"]), flush=True)
    except torch.OutOfMemoryError as error:  # a step without graph needs more
        note(results, f"step times: {error!r}")
    if run_starts(options, plan, shared, runners, results):
        results.finish()
    return 0


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)  # mmengine names every weight that it initialises
    sys.exit(main())
