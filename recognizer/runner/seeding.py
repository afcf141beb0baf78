"""Random draws of a training that depend on seed, epoch and sample only.

Not on the number of workers or processes, nor on where a run was interrupted: mmengine seeds a
worker once, so that workers that start anew in each epoch repeat their augmentation, and those
that persist cannot be continued by another run.
"""

import random
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from recognizer.runner.engine import DATA_SAMPLERS, DATASETS, Section


class SampleError(RuntimeError):
    """A sample that cannot be made: its file is damaged, or a transform cannot take it."""

    def __init__(self, message: str) -> None:
        # A worker process hands the error on with its traceback in front; the end says it all.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


def reseed(*parts: int) -> None:
    """Seed Python, NumPy and torch, on the CPU and on every GPU, by a few whole numbers."""
    _seed_cpu(*parts)
    torch.cuda.manual_seed_all(torch.initial_seed())


def _seed_cpu(*parts: int) -> None:
    state = np.random.SeedSequence(parts).generate_state(3)
    random.seed(int(state[0]))
    np.random.seed(int(state[1]))  # noqa: NPY002 - the libraries' transforms draw from it
    # torch.manual_seed would seed the GPUs as well.
    torch.default_generator.manual_seed(int(state[2]))


@DATA_SAMPLERS.register_module()
class EpochSampler(Sampler[tuple[int, int]]):
    """Give (epoch, index) in the order of another sampler, for ``SeededDataset``."""

    def __init__(self, dataset: Sized, sampler: Section, seed: int | None = None) -> None:
        self.inner = DATA_SAMPLERS.build(
            dict(sampler), default_args={"dataset": dataset, "seed": seed}
        )
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Shuffle as in this epoch."""
        self.epoch = epoch
        if hasattr(self.inner, "set_epoch"):
            self.inner.set_epoch(epoch)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, index) for index in self.inner)

    def __len__(self) -> int:
        return len(self.inner)


@DATASETS.register_module()
class SeededDataset(Dataset[Any]):
    """Seed Python, NumPy and torch on the CPU for each sample, and put them back afterwards.

    The GPUs' generators are left alone: samples are made on the CPU, in workers or between the
    steps of the network, whose dropout must not depend on which.

    Args:
        dataset: another data set, or its config.
        seed: of the run.
        named_by: the keys of its items whose values together name a sample.

    """

    def __init__(self, dataset: Section | Any, seed: int, named_by: Sequence[str] = ()) -> None:
        self.inner = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.seed = seed
        self.named_by = tuple(named_by)

    @property
    def metainfo(self) -> Any:
        """The metainfo of the inner data set."""
        return self.inner.metainfo

    def full_init(self) -> None:
        """Read the annotations, if that is still to be done."""
        self.inner.full_init()

    def __getitem__(self, place: tuple[int, int]) -> Any:
        """Return what the data set makes of the sample with this index in this epoch.

        Raises:
            SampleError: it cannot; the message names the sample.

        """
        epoch, index = place
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        _seed_cpu(self.seed, epoch, index)
        try:
            item = self.inner[index]
        except Exception as error:  # files and transforms fail in any way there is
            raise SampleError(
                f"sample {self.name_of(index)}: {type(error).__name__}: {str(error)[:500]}; "
                "mend this file or take it out of the annotations; if no sample can be made, "
                "look at train_dataloader.dataset.pipeline"
            ) from error
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
            torch.set_rng_state(before[2])
        if isinstance(item, dict) and hasattr(item.get("data_samples"), "set_metainfo"):
            item["data_samples"].set_metainfo({"sample_index": index})
        return item

    def __len__(self) -> int:
        return len(self.inner)

    def name_of(self, index: int) -> str:
        """Return the name of a sample."""
        item = self.inner.get_data_info(index)
        return " ".join(str(item[key]) for key in self.named_by) or str(index)
