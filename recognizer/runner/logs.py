"""Logs of a training, to be read while it runs: ``latest.log`` and ``latest.log.json``.

mmengine leaves a folder for each start. Guides, and the habits of mmcv 1.x, read two files of the
work_dir itself; these hold all starts of one training, a resumed one included.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from recognizer.runner.engine import Hook, LogProcessor, Runner
from recognizer.storage.artifacts import atomic_path

LATEST_LOG, LATEST_JSON = "latest.log", "latest.log.json"
Row = dict[str, Any]


def digits(value: float) -> str:
    """Write six digits after the point, and four significant ones where the value is small."""
    small = math.isfinite(value) and 0 < abs(value) < 1e-3
    return f"{value:.3e}" if small and abs(value) < 1e-4 else f"{value:{'.4g' if small else '.6f'}}"


class LogLines(LogProcessor):
    """mmengine's log lines, with small values readable, and each line as a row of numbers.

    Attributes:
        on_row: called with each row; None: rows are dropped.

    """

    on_row: Callable[[Row], None] | None = None

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[Row, str]:
        """Return the values and the line of an iteration."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode == "train":
            self._give("train", tag, runner.epoch + 1, runner.iter + 1)
        return tag, self._readable(tag, line)

    def get_log_after_epoch(
        self, runner: Runner, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[Row, str]:
        """Return the values and the line of a validation."""
        tag, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        if mode == "val" and runner._train_loop is not None:
            self._give("val", tag, runner.epoch, runner.iter)
        return tag, line

    def _give(self, mode: str, tag: Row, epoch: int, iteration: int) -> None:
        if self.on_row is not None:
            names = {key.removeprefix(f"{mode}/"): value for key, value in tag.items()}
            values = {key: _plain(value) for key, value in names.items()}
            self.on_row({"mode": mode, **values, "epoch": epoch, "iter": iteration})

    def _readable(self, tag: Row, line: str) -> str:
        """Replace what mmengine rounds to a few digits, if not to 0."""
        for key, value in tag.items():
            if isinstance(value, float) and 0 < abs(value) < 1e-3:
                item = f"  {key.rpartition('/')[2]}: "
                line = line.replace(
                    f"{item}{value:.{self.num_digits}f}", f"{item}{digits(value)}", 1
                )
        return line


def _plain(value: object) -> object:
    """Return a number that JSON has: None in place of NaN and infinity."""
    if torch.is_tensor(value):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _LogFormatter(logging.Formatter):
    """Time and message, and the level but for INFO, which a search for 'inf' would find."""

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname} - "
        return f"{self.formatTime(record, self.datefmt)} - {level}{record.getMessage()}"


class LatestLogHook(Hook):
    """Write ``latest.log`` and ``latest.log.json`` into the work_dir.

    ``latest.log`` has all that is logged from the first iteration on; config and environment stand
    in the log of the start, which it names. ``latest.log.json`` has one JSON object a line:
    ``mode`` (train or val), ``epoch``, ``iter`` (from the start of the training), and the values
    of the log line. A resumed training adds to both; rows that come again are replaced.
    """

    priority = "HIGHEST"  # before other hooks log anything

    def before_train(self, runner: Runner) -> None:
        """Open the files."""
        if runner.rank != 0:
            return
        folder = Path(runner.work_dir)
        handler = logging.FileHandler(folder / LATEST_LOG, encoding="utf-8")
        handler.setFormatter(_LogFormatter(datefmt="%Y-%m-%d %H:%M:%S"))
        handler.setLevel(logging.INFO)
        handler.addFilter(lambda record: "will be deprecated" not in record.getMessage())
        runner.logger.addHandler(handler)
        runner.logger.info(
            f"start: epoch {runner.epoch + 1} of {runner.max_epochs}; config and environment are "
            f"in {runner.timestamp}/{runner.timestamp}.log"
        )
        rows = JsonRows(folder / LATEST_JSON, runner.iter)
        if isinstance(runner.log_processor, LogLines):
            runner.log_processor.on_row = rows.add


class JsonRows:
    """Rows of a training in a file, one JSON object a line, each place once.

    Args:
        path: the file; what it holds is kept as far as the training has come.
        iteration: how far that is; later rows are dropped, since they will come again.

    """

    def __init__(self, path: Path, iteration: int) -> None:
        self.path = path
        kept = [row for row in read_rows(path) if row["iter"] <= iteration]
        self.places = {_place(row) for row in kept}
        with atomic_path(path, path.parent) as scratch:
            scratch.write_text("".join(map(_line, kept)), encoding="utf-8")

    def add(self, row: Row) -> None:
        """Add a row, unless there is one of the same place."""
        if _place(row) not in self.places:
            self.places.add(_place(row))
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(row))


def _place(row: Row) -> tuple[object, ...]:
    return row["mode"], row["epoch"], row["iter"]


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file; lines that are none, such as one cut off, are left out."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        try:
            row = json.loads(line)
            whole = isinstance(row, dict) and type(row["iter"]) is int
        except (ValueError, KeyError):
            continue
        if whole and {"mode", "epoch"} <= row.keys():
            yield row
