"""What both trainings share: arguments, batches from worker processes, the steps and the log."""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import onnx
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from samples.small_pose.average import Average, layers
from samples.small_pose.graph import TrainableGraph

_EVERY_S = 480.0
_WARM_UP = 100
_LAST_RATE = 0.02  # of the rate, at the end
_SEED_STEP = 1000  # between workers

Batch = Sequence[Tensor]


def parser(doc: str | None, *, minutes: float, rate: float, batch: int) -> argparse.ArgumentParser:
    """Return the command line of a training with these defaults."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--weights", type=Path, required=True, help="folder of the public files")
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--minutes", type=float, default=minutes)
    made.add_argument("--start", type=Path, help="an earlier --out to go on from")
    made.add_argument("--rate", type=float, default=rate, help="of a layer's size")
    made.add_argument("--batch", type=int, default=batch)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--device", default="cpu", help="cpu or cuda:0")
    made.add_argument("--workers", type=int, default=0, help="processes that draw; 0: this one")
    return made


class _Endless(IterableDataset[Batch]):
    """Batches without end, in every worker from a seed of its own."""

    def __init__(self, make: Callable[[int], Callable[[], Batch]], seed: int) -> None:
        self._make, self._seed = make, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        if worker is not None:
            cv2.setNumThreads(1)
        draw = self._make(self._seed + (_SEED_STEP * worker.id if worker is not None else 0))
        while True:
            yield draw()


def batches(make: Callable[[int], Callable[[], Batch]], seed: int, workers: int) -> Iterator[Batch]:
    """Return batches without end.

    Args:
        make: a seed -> a call that draws one batch.
        seed: of the first worker.
        workers: processes that draw; 0 for this one.

    """
    # Forked: the pictures are mapped once, and nothing has to be sent to the workers.
    context = "fork" if workers else None
    return iter(
        DataLoader(
            _Endless(make, seed),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=context,
        )
    )


def rate_share(step: int, done: float) -> float:
    """Return the share of the rate: it rises in 100 steps and falls as a cosine until the end."""
    rise = min(1.0, (step + 1) / _WARM_UP)
    return rise * (_LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done)))


def train(
    network: TrainableGraph,
    given: argparse.Namespace,
    drawn: Iterator[Batch],
    loss: Callable[[TrainableGraph, Batch], Tensor],
    measure: Callable[[TrainableGraph], Mapping[str, object]],
    *,
    longest: float,
) -> None:
    """Train for ``given.minutes``, one step at least; write ``given.out`` and its log.

    Args:
        network: on ``given.device``.
        given: of ``parser``.
        drawn: batches.
        loss: of a batch that is on the device.
        measure: what to note about the averaged weights.
        longest: the gradient is cut to this length.

    """
    device = torch.device(given.device)
    fused = device.type == "cuda"
    optimiser = torch.optim.AdamW(layers(network), given.rate, weight_decay=0.0, fused=fused)
    average = Average(network)
    begun = written = time.monotonic()
    step, done, losses = 0, 0.0, [torch.zeros((), device=device)]
    _note(given.out, step, losses, measure(average.model))
    losses.clear()
    while done < 1:
        for group in optimiser.param_groups:
            group["lr"] = given.rate * group["size"] * rate_share(step, done)
        value = loss(network, [part.to(device, non_blocking=True) for part in next(drawn)])
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), longest)
        optimiser.step()
        average.update(network)
        losses.append(value.detach())
        step += 1
        now = time.monotonic()
        done = (now - begun) / max(given.minutes * 60, 1e-9)
        if now - written > _EVERY_S or done >= 1:
            written = now
            _note(given.out, step, losses, measure(average.model))
            losses.clear()
            _save(average.model, given.out)


def _save(network: TrainableGraph, out: Path) -> None:
    """Write the file whole: what was there before stays until then."""
    scratch = out.with_name(f"{out.name}.part")
    onnx.save(network.trained(), str(scratch))
    scratch.replace(out)


def _note(out: Path, step: int, losses: list[Tensor], figures: Mapping[str, object]) -> None:
    """Append how far the training is to the log beside the file."""
    row = {"step": step, "loss": round(float(torch.stack(losses).mean()), 4), **figures}
    with out.with_suffix(".log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    sys.stdout.write(f"{row}\n")
    sys.stdout.flush()
