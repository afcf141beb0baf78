"""What both trainings share: arguments, batches from worker processes, the steps and the log."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from samples.small_pose.files import write_network
from samples.small_pose.graph import TrainableGraph
from samples.small_pose.optimization import (
    ExponentialMovingAverage,
    layerwise_adamw,
    learning_rate_factor,
    set_learning_rate,
)

_EVERY_S = 480.0
_CHECK_STEPS = 20  # between looks at the losses, for which a GPU has to be waited for
_SEED_STEP = 1000  # between workers

Batch = Sequence[Tensor]


def parser(
    doc: str | None, *, minutes: float, learning_rate: float, batch: int
) -> argparse.ArgumentParser:
    """Return the command line of a training with these defaults."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--weights", type=Path, required=True, help="folder of the public files")
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--minutes", type=float, default=minutes)
    made.add_argument(
        "--start",
        type=Path,
        help="fine-tune this earlier --out in place of the public file; a new training, not a "
        "resumed one: optimizer, learning rate schedule and average begin anew",
    )
    made.add_argument(
        "--learning-rate",
        type=float,
        default=learning_rate,
        help="in proportion to the root mean square of a layer's weights",
    )
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
    # Forked: the pictures are mapped once, and nothing has to be sent to the workers. OpenCV's
    # threads do not survive a fork, and a worker that waits for them stands still: end them here.
    context = "fork" if workers else None
    if workers:
        cv2.setNumThreads(1)
    return iter(
        DataLoader(
            _Endless(make, seed),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=context,
        )
    )


def train(
    network: TrainableGraph,
    given: argparse.Namespace,
    drawn: Iterator[Batch],
    loss: Callable[[TrainableGraph, Batch], Tensor],
    measure: Callable[[TrainableGraph], Mapping[str, object]],
    *,
    max_grad_norm: float,
) -> None:
    """Train for ``given.minutes``, one step at least; write ``given.out`` and its log.

    The file is written before it is measured.

    Args:
        network: on ``given.device``.
        given: of ``parser``.
        drawn: batches.
        loss: of a batch that is on the device.
        measure: what to note about the exponential moving average of the weights.
        max_grad_norm: to which the gradient is clipped.

    Raises:
        ValueError: a loss or gradient is infinite or not a number; the file stays as last written.

    """
    device = torch.device(given.device)
    optimizer = layerwise_adamw(network, fused=device.type == "cuda")
    average = ExponentialMovingAverage(network)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    begun = written = time.monotonic()
    step, done, losses = 0, 0.0, [torch.zeros((), device=device)]
    _note(given.out, step, losses, measure(average.model))
    losses.clear()
    norms: list[Tensor] = []
    while done < 1:
        set_learning_rate(optimizer, given.learning_rate * learning_rate_factor(step, done))
        value = loss(network, [part.to(device, non_blocking=True) for part in next(drawn)])
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), max_grad_norm)
        optimizer.step()
        average.update(network)
        losses.append(value.detach())
        norms.append(norm)
        step += 1
        now = time.monotonic()
        done = (now - begun) / max(given.minutes * 60, 1e-9)
        due = now - written > _EVERY_S or done >= 1
        if due or step % _CHECK_STEPS == 0:
            _check(losses, norms, step, given)
            norms.clear()
        if due:
            written = now
            write_network(average.model.trained(), given.out)
            _note(given.out, step, losses, measure(average.model))
            losses.clear()


def _check(losses: list[Tensor], norms: list[Tensor], step: int, given: argparse.Namespace) -> None:
    """Raise ValueError where the last losses or the norms of their gradients are not finite."""
    recent = torch.stack([torch.stack(losses[-len(norms) :]), torch.stack(norms)]).float()
    wrong = recent.isfinite().all(0).logical_not().nonzero()
    if len(wrong):
        place = int(wrong[0])
        loss, norm = recent[:, place].tolist()
        kept = "stays as last written" if given.out.is_file() else "is not written"
        raise ValueError(
            f"step {step - len(norms) + place + 1}: expected a finite loss and gradient, got a "
            f"loss of {loss:g} and a gradient of norm {norm:g}; {given.out} {kept}; train again "
            f"with a --learning-rate below {given.learning_rate:g}"
        )


def _note(out: Path, step: int, losses: list[Tensor], figures: Mapping[str, object]) -> None:
    """Append how far the training is to the log beside the file."""
    row = {"step": step, "loss": round(float(torch.stack(losses).mean()), 4), **figures}
    with out.with_suffix(".log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    sys.stdout.write(f"{row}\n")
    sys.stdout.flush()
