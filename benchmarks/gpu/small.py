"""Our small pose network: as many epochs as fit (part d of the kit).

    python -m benchmarks.gpu.small --seconds 400 --out DIR --device cuda:0 --data .gpu/data

Learns from frames that a slow teacher labelled and from COCO train2017's pictures with their true
labels; measured on COCO val2017 (true labels) and on recordings that were held out (the teacher's
labels), upright and turned. Leaves ``small.pth`` (weights averaged over the training),
``small.json``, ``small.md`` and ``small.png``; goes on from ``small_state.pth`` in a later call.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from annotation.teacher_labels import PERSON
from benchmarks.gpu._part import Options, Results, parse
from benchmarks.gpu.small_augment import Pool, Strength
from benchmarks.gpu.small_data import CCTV_VAL, COCO_TRAIN, COCO_VAL, TRAIN, Data, load
from benchmarks.gpu.small_eval import average_precision, predict, turned
from benchmarks.gpu.small_network import SmallPose, load_start
from benchmarks.gpu.small_report import write_report
from benchmarks.gpu.small_train import MODES, PLAIN, Mode, Recipe, Trainer, measure

_SHARES = {
    "coco": 0.28,
    "fight_surv": 0.48,
    "bed_falls": 0.08,
    "multiview_falls": 0.03,
    "assets": 0.04,
}
_REST = 0.09  # falls, whose folders are named by the person: shared equally
_EMPTY = 0.35  # chance of a picture without people beside one with some
_RESERVE_S = 14.0  # for the last evaluation and the files
_EVERY_S = 55.0  # between evaluations
_TESTED = 160  # pictures of a test, at most
_TINY = Recipe(batch=4, strength=Strength(mosaic=0.25))


def main(argv: list[str] | None = None) -> int:
    """Train until the time is over; return 0 when that went well."""
    options = parse(__doc__, argv)
    results = Results.open(options, "small_tiny" if options.tiny else "small")
    if "complete" in results:
        return 0
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    data = load(options.data / "small", most=40 if options.tiny else None)
    learnt = data.part(TRAIN, COCO_TRAIN)
    pool = Pool(learnt, _chances(learnt), options.device)
    network = SmallPose()
    load_start(network, np.load(options.data / "small" / "start.npz"))
    network.to(options.device)
    results.put("data", _describe(data))
    recipe = _TINY if options.tiny and not _is_gpu(options) else Recipe()
    mode = _fastest(network, pool, recipe, options, results)
    run = _Run(options, results, Trainer(network, pool, recipe, mode), _tests(data, options))
    run.go()
    return 0


def _is_gpu(options: Options) -> bool:
    return options.device.startswith("cuda")


def _chances(data: Data) -> torch.Tensor:
    """Return each picture's chance: by data set, and less for those without people."""
    chances = np.zeros(len(data.groups))
    groups = np.unique(data.groups).tolist()
    falls = max(1, len(set(groups) - set(_SHARES)))
    for group in groups:
        rows = data.groups == group
        people = (data.labels.kinds[rows] == PERSON).any(1)
        weights = np.where(people, 1.0, _EMPTY)
        chances[rows] = _SHARES.get(group, _REST / falls) * weights / weights.sum()
    return torch.from_numpy(chances).float()


def _describe(data: Data) -> dict[str, Any]:
    """Return how much there is of what."""
    people = data.labels.kinds == PERSON
    posed = people & (data.labels.keypoints[..., 2] > 0).any(-1)
    return {
        str(group): {
            name: {
                "pictures": int(rows.sum()),
                "people": int(people[rows].sum()),
                "poses": int(posed[rows].sum()),
            }
            for name, number in (
                ("train", TRAIN),
                ("train (truth)", COCO_TRAIN),
                ("held out", CCTV_VAL),
                ("held out (truth)", COCO_VAL),
            )
            if (rows := (data.groups == group) & (data.splits == number)).any()
        }
        for group in np.unique(data.groups)
    }


def _tests(data: Data, options: Options) -> dict[str, Data]:
    most = 4 if options.tiny else _TESTED
    upright = {"COCO val2017": data.part(COCO_VAL), "CCTV held out": data.part(CCTV_VAL)}
    upright = {name: part.spread(most) for name, part in upright.items()}
    sides = {f"{name}, turned": turned(part) for name, part in upright.items()}
    tests: dict[str, Data] = {**upright, **sides}
    return {name: part for name, part in tests.items() if len(part.splits)}


def _fastest(
    network: SmallPose, pool: Pool, recipe: Recipe, options: Options, results: Results
) -> Mode:
    """Return the mode of the shortest training step; on a CPU there is no choice."""
    if not _is_gpu(options):
        return PLAIN
    known: dict[str, Any] = results.values.get("step_ms", {})
    steps = 3 if options.tiny else 9
    for mode in MODES:
        if mode.name in known and not isinstance(known[mode.name], str):
            continue
        try:
            known[mode.name] = round(measure(network, pool, recipe, mode, steps), 2)
        except Exception as error:  # noqa: BLE001 - one mode that fails must not end the training
            known[mode.name] = f"{type(error).__name__}: {error}"[:300]
        torch.cuda.empty_cache()
        results.put("step_ms", known)
    results.put("peak_gib", round(torch.cuda.max_memory_allocated() / 2**30, 2))
    spans = {mode: known[mode.name] for mode in MODES if isinstance(known[mode.name], float)}
    best = min(spans, key=lambda mode: spans[mode]) if spans else PLAIN
    results.put("mode", best.name)
    return best


class _Run:
    """One training: its clock, its files and its curves."""

    def __init__(
        self, options: Options, results: Results, trainer: Trainer, tests: dict[str, Data]
    ) -> None:
        self.options, self.results, self.trainer, self.tests = options, results, trainer, tests
        self.name = "small_tiny" if options.tiny else "small"
        self.curve: list[dict[str, Any]] = results.values.get("curve", [])
        self.begun = 0.0  # progress at the start of this call
        path = self._path("_state.pth")
        if path.is_file():
            state = torch.load(path, map_location=options.device, weights_only=True)
            trainer.restore(state)
            self.begun = float(state["progress"])

    def _path(self, end: str) -> Path:
        return self.options.out / f"{self.name}{end}"

    def go(self) -> None:
        """Train, evaluate now and then, and write everything."""
        start, least = time.monotonic(), 3 if self.options.tiny else 0
        span = max(1.0, self.options.left - (2.0 if self.options.tiny else _RESERVE_S))
        if self.options.tiny:
            span = min(span, 4.0 if _is_gpu(self.options) else 8.0)
        steps, evaluated = 0, start
        sums: dict[str, Any] = {}
        progress = self.begun
        while progress < 1 or steps < least:
            parts = self.trainer.step(min(1.0, progress))
            for name, value in parts.items():  # kept on the device: reading them would wait
                sums[name] = sums.get(name, 0) + value.detach()
            steps += 1
            now = time.monotonic()
            progress = self.begun + (1 - self.begun) * (now - start) / span
            if now - evaluated > _EVERY_S and span - (now - start) > _EVERY_S / 2:
                self.note(progress, steps, sums)
                self.save(progress)
                evaluated, sums, steps = time.monotonic(), {}, 0
        self.note(1.0, steps, sums)
        self.save(1.0)
        if not self.options.tiny:
            self.results.finish()

    def note(self, progress: float, steps: int, sums: dict[str, Any]) -> None:
        """Evaluate the averaged weights and write down what came out."""
        row: dict[str, Any] = {"progress": round(progress, 4), "steps": self.trainer.steps}
        row["losses"] = {n: round(float(v) / max(1, steps), 4) for n, v in sums.items()}
        for name, part in self.tests.items():
            try:
                detections = predict(self.trainer.average, part.pictures, self.options.device)
                scores = average_precision(detections, part.labels)
                row[name] = {key: round(value, 4) for key, value in scores.items()}
            except Exception as error:  # noqa: BLE001 - nor must an evaluation
                row[name] = {"error": f"{type(error).__name__}: {error}"[:300]}
        self.curve.append(row)
        self.results.put("curve", self.curve)
        print(row, flush=True)
        try:
            write_report(self.options.out, self.name, self.results.values, self.options.device)
        except Exception as error:  # noqa: BLE001 - nor a picture
            self.results.put("report_error", str(error)[:300])

    def save(self, progress: float) -> None:
        """Write the averaged weights, and the state that a later call goes on from."""
        average = self.trainer.average.state_dict()
        weights = {name: value.detach().float().cpu() for name, value in average.items()}
        recipe = self.trainer.recipe
        about = {
            "steps": self.trainer.steps,
            "progress": progress,
            "batch": recipe.batch,
            "rate": recipe.rate,
            "rate_start": recipe.rate_start,
        }
        _write(self._path(".pth"), {"state_dict": weights, "facts": about})
        _write(self._path("_state.pth"), {**self.trainer.state(), "progress": progress})


def _write(path: Path, content: dict[str, Any]) -> None:
    scratch = path.with_suffix(".part")
    torch.save(content, scratch)
    scratch.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())
