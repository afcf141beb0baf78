"""How often a job may be tried: a worker's death is an attempt, its node's is none."""

_MAX_WORKERS = 3
_MAX_NODES = 10  # against a job that takes its whole node down, every time


class Attempts:
    """Counts the workers, and apart from them the nodes, that died with a job."""

    def __init__(self) -> None:
        self._workers: dict[int, int] = {}
        self._nodes: dict[int, int] = {}

    def killed_worker(self, number: int, how: str) -> str:
        """Count a worker; return why the job is given up, "" if it is tried again."""
        count = self._workers[number] = self._workers.get(number, 0) + 1
        return f"killed its worker {count} times; last: {how}" if count >= _MAX_WORKERS else ""

    def lost_node(self, number: int) -> str:
        """Count a node; return why the job is given up, "" if it is tried again."""
        count = self._nodes[number] = self._nodes.get(number, 0) + 1
        if count < _MAX_NODES:
            return ""
        return f"ran on {count} nodes of the cluster that died or could not be reached"

    def forget(self, number: int) -> None:
        """Drop the counts of a job that is done."""
        self._workers.pop(number, None)
        self._nodes.pop(number, None)
