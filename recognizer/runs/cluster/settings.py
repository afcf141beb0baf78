"""What a run on Ray takes of the cluster, and what every node must see."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cluster:
    """How Ray runs the workers of a batch.

    Attributes:
        address: of Ray's head, ``host:port``; None: a Ray on this machine for this batch.
        num_cpus: CPUs reserved for a worker.
        num_gpus: GPUs reserved for a worker.
        max_workers: None for as many as the cluster has room for.
        folder: where workers write results; every node must see it. As text an address in object
            storage, for which every node must have obstore and the credentials.
        reads: files and folders that workers read; every node must see them under these paths.
        files: network files; a node that lacks one gets it from the driver, by its digest.

    """

    address: str | None
    num_cpus: float
    num_gpus: float
    max_workers: int | None
    folder: Path | str
    reads: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()

    def slots(self, cpus: float, gpus: float) -> int:
        """Return how many workers fit on a node with so many CPUs and GPUs."""
        by_cpu = int(cpus / self.num_cpus + 1e-6)
        if not self.num_gpus:
            return by_cpu
        if self.num_gpus < 1:  # Ray places a worker on one GPU, never across two
            return min(by_cpu, int(gpus) * int(1 / self.num_gpus + 1e-6))
        return min(by_cpu, int(gpus / self.num_gpus + 1e-6))

    def amount(self) -> str:
        """Return what a worker takes, for messages."""
        return describe(self.num_cpus, self.num_gpus)


def describe(cpus: float, gpus: float) -> str:
    """Return such as ``8 CPUs, 1 GPU``."""
    return ", ".join(
        f"{count:g} {name}{'' if count == 1 else 's'}"
        for count, name in ((cpus, "CPU"), (gpus, "GPU"))
    )
