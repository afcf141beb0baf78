"""Run one training: mmengine's Runner, wrapped once for classifiers and pose networks.

Around the Runner: checkpoints that hold no code, resuming that is exact, a quiet console, and
nothing left behind in mmengine's global tables, so that trainings can follow one another.
"""

import contextlib
import itertools
import logging
import os
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.utils import ManagerMixin
from torch import distributed, nn

from recognizer.installation import cpu_cores
from recognizer.openmmlab import Library, scope
from recognizer.runner.checkpoints import CheckpointError, load_checkpoint, load_weights
from recognizer.runner.engine import (
    Checkpoint,
    CheckpointHook,
    Config,
    Hook,
    LogProcessor,
    Runner,
    Section,
)
from recognizer.runner.hooks import ProgressHook, log_best
from recognizer.runner.logs import LatestLogHook, LogLines
from recognizer.runner.preflight import check_same_task
from recognizer.runner.resume import LATEST, find_source, link, log_progress_so_far, restore_best
from recognizer.runner.train_config import config_errors, datasets
from recognizer.storage.artifacts import METADATA_KEY, atomic_path

logger = logging.getLogger(__name__)

OnProgress = Callable[[int, int], None]
"""Called after each iteration with how many are done and how many there will be."""

_NEVER = 10**9
_count = itertools.count()


@dataclass(frozen=True)
class TrainingTask:
    """What differs between trainings of the two libraries.

    Attributes:
        library: whose scope everything is built in.
        metadata: checks the data that a config names and returns what checkpoints say of it:
            plain values by name, with the sha256 of the training data as ``train_sha256``.
        named_by: the keys of a data set's items that together name a sample.
        hooks: more hooks of mmengine, registered last.

    """

    library: Library
    metadata: Callable[[Config], dict[str, Any]]
    named_by: Sequence[str] = ()
    hooks: Sequence[Hook] = ()


class SafeRunner(Runner):
    """mmengine's Runner with safe, atomic checkpoints; on CPUs too where processes join."""

    def build_logger(
        self, log_level: int | str = "INFO", log_file: str | None = None, **options: Any
    ) -> logging.Logger:
        """Log to the work_dir; only errors reach the console."""
        log: logging.Logger = super().build_logger(log_level, log_file, **options)
        for handler in log.handlers:
            if type(handler) is logging.StreamHandler:
                handler.setLevel(max(handler.level, logging.ERROR))
        return log

    def wrap_model(self, model_wrapper_cfg: Section | None, model: nn.Module) -> nn.Module:
        """Wrap the model for several processes; mmengine's way needs GPUs."""
        if not self.distributed or torch.cuda.is_available() or model_wrapper_cfg is not None:
            return super().wrap_model(model_wrapper_cfg, model)
        unused = self.cfg.get("find_unused_parameters", False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # mmengine uses a deprecated call
            wrapped: nn.Module = MMDistributedDataParallel(
                module=model, broadcast_buffers=False, find_unused_parameters=unused
            )
            return wrapped

    def load_checkpoint(
        self, filename: str, map_location: str = "cpu", strict: bool = False, revise_keys: Any = ()
    ) -> Checkpoint:
        """Load weights; on resuming every weight must be there and fit."""
        path = Path(filename)
        checkpoint = load_checkpoint(path, device=str(map_location))
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        load_weights(self._bare_model(), checkpoint["state_dict"], path, strict=self._resume)
        self._has_loaded = True
        return checkpoint

    def build_log_processor(self, log_processor: LogProcessor | Section) -> LogProcessor:
        """Log small values with enough digits, and write rows beside the lines."""
        if (
            isinstance(log_processor, LogProcessor)
            or log_processor.get("type", "LogProcessor") != "LogProcessor"
        ):
            return super().build_log_processor(log_processor)
        return LogLines(**{key: log_processor[key] for key in log_processor if key != "type"})

    def register_hooks(
        self,
        default_hooks: Section | None = None,
        custom_hooks: Sequence[Any] | None = None,
    ) -> None:
        """Register the hook of the work_dir's logs first: it logs the messages of all others."""
        self.register_hook(LatestLogHook())
        super().register_hooks(default_hooks, custom_hooks)

    @master_only  # type: ignore[untyped-decorator]
    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint whole or not at all; ``latest.pth`` is another name of the last one.

        mmengine leaves the optimiser out of the best one, from which nothing could go on then.
        """
        final = Path(out_dir) / filename
        hooks = [h for h in self.hooks if isinstance(h, CheckpointHook) and h.save_best]
        is_best = filename.startswith("best_") and bool(hooks)
        if is_best:
            kwargs["save_optimizer"] = hooks[0].save_optimizer
            kwargs["save_param_scheduler"] = hooks[0].save_param_scheduler
        with atomic_path(final, final.parent) as scratch:
            super().save_checkpoint(str(scratch.parent), scratch.name, *args, **kwargs)
        link(final, Path(self.work_dir) / LATEST)
        if is_best:
            log_best(self, hooks[0], filename)

    def _bare_model(self) -> nn.Module:
        model: Any = self.model
        return model.module if is_model_wrapper(model) else model  # type: ignore[no-any-return]

    def _maybe_compile(self, target: str) -> None:
        """Compile the loss of the model where the config says ``compile``.

        mmengine would compile the whole train_step: the batch's pictures and names, and the
        optimiser with its changing learning rates, of which torch traces some and refuses others.
        """
        options = self.cfg.get("compile")
        if options:
            model: Any = self._bare_model()
            model.loss = torch.compile(model.loss, **({} if options is True else dict(options)))
            logger.info("the loss is compiled; the first iterations take minutes on a CPU")


# --- training ----------------------------------------------------------------------


def run(
    cfg: Config,
    task: TrainingTask,
    *,
    resume: bool | Path = False,
    on_progress: OnProgress | None = None,
) -> Path:
    """Train as the config says and return the best checkpoint, or the last one without val.

    Under torchrun all processes train together. A run that is interrupted and resumed gives the
    losses of one that was not, to the bit on a CPU; for that, each epoch and each sample draws
    from a seed of its own.

    Args:
        cfg: a training config; ``cfg.work_dir`` is where everything goes.
        task: data checks, sample names and hooks of the library.
        resume: go on from the work_dir's last checkpoint (start if there is none), or from the
            checkpoint that is named. So do ``resume = True`` and ``resume_from`` in the config.
        on_progress: called after each iteration.

    Raises:
        FileNotFoundError: the checkpoint to go on from is not there.
        FileExistsError: not resuming, but the work_dir holds a training.
        CheckpointError: a checkpoint to start from that is damaged or of something else.
        NotFiniteError: the loss or a weight became NaN or infinite.
        TrainConfigError: nothing can be built of the config, or of the checkpoint's parts.
        OSError, ValueError: what ``task.metadata`` raises of the data.

    """
    cfg = cfg.copy()
    work_dir = Path(cfg.work_dir).absolute()
    cfg.work_dir = str(work_dir)
    source = find_source(cfg, work_dir, resume)
    name = Path(cfg.filename).stem if cfg.filename else ""
    metadata = {"config": name, **dict(cfg.get(METADATA_KEY) or {}), **task.metadata(cfg)}
    cfg.resume = source is not None
    if source is not None:
        cfg.load_from, checkpoint = str(source), load_checkpoint(source)
        _continue_run(cfg, metadata, checkpoint, source)
        log_progress_so_far(cfg, source, checkpoint)
        restore_best(work_dir, source, checkpoint)
    begun: list[int] = []

    def count(done: int, total: int) -> None:
        begun[:] = [done]
        if on_progress is not None:
            on_progress(done, total)

    errors = config_errors(cfg, lambda: bool(begun), source)
    with _processes(), global_state(), scope(task.library), errors:
        _prepare(cfg, metadata, task)
        runner = SafeRunner.from_cfg(cfg)
        for hook in (ProgressHook(count), *task.hooks):
            runner.register_hook(hook)
        try:
            runner.train()
        except BaseException as error:
            runner.logger.warning(f"stopped: {type(error).__name__}: {error}")
            raise
        finally:
            _close(runner)
        return _result(runner, source)


def _result(runner: Runner, source: Path | None) -> Path:
    """Return the best checkpoint, the last one where none was the best."""
    info = runner.message_hub.runtime_info
    saved = [Path(info[key]) for key in ("best_ckpt", "last_ckpt") if info.get(key)]
    for path in saved:
        if path.is_file():
            return path
    if source is not None and runner.epoch >= runner.max_epochs:
        raise ValueError(
            f"{source}: was trained for {runner.epoch} epochs and train_cfg.max_epochs is "
            f"{runner.max_epochs}: nothing is left to train; set it higher"
        )
    raise RuntimeError(f"{runner.work_dir}: nothing was saved; set default_hooks.checkpoint")


def _continue_run(cfg: Config, metadata: dict[str, Any], checkpoint: Section, path: Path) -> None:
    """Take the seed of the run that goes on, and refuse to go on with other data."""
    meta = checkpoint["meta"]
    before = meta.get(METADATA_KEY)
    if not isinstance(before, Mapping) or not {"optimizer", "message_hub"} <= checkpoint.keys():
        raise CheckpointError(
            f"{path}: expected a checkpoint that this program saved, with its optimizer, to go on "
            "from; to start from its weights, use --cfg-options load_from=<file> without --resume"
        )
    if before.get("train_sha256") != metadata.get("train_sha256"):
        raise CheckpointError(
            f"{path}: was trained on other data than {datasets(cfg)['train'].ann_file}; resuming "
            "needs the same file, otherwise train in another work_dir"
        )
    check_same_task(before, metadata, path)
    seed = meta.get("seed")
    if type(seed) is not int or type(meta.get("epoch")) is not int or meta["epoch"] < 0:
        raise CheckpointError(f"{path}: expected a seed and an epoch in it, whole numbers")
    if cfg.get("randomness", {}).get("seed") not in (None, seed):
        logger.warning("going on with the seed of the run, %s", seed)
    cfg.randomness = {**(cfg.get("randomness") or {}), "seed": seed}


def _prepare(cfg: Config, metadata: Section, task: TrainingTask) -> None:
    """Change a library's config into what we run."""
    cfg.experiment_name = f"{metadata['config'] or 'training'}_{os.getpid()}_{next(_count)}"
    cfg.launcher = "pytorch" if {"RANK", "WORLD_SIZE"} <= os.environ.keys() else "none"
    randomness = {**(cfg.get("randomness") or {})}
    if randomness.get("seed") is None:
        randomness["seed"] = random.SystemRandom().randrange(2**31)
    cfg.randomness = randomness
    fit_loaders(cfg)
    schedulers = cfg.get("param_scheduler") or []
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        if scheduler.get("begin", 0) >= cfg.train_cfg.get("max_epochs", _NEVER):
            scheduler.setdefault("end", _NEVER)  # its turn never comes; mmengine would refuse
    if cfg.train_cfg.get("type", "EpochBasedTrainLoop") == "EpochBasedTrainLoop":
        loader = cfg.train_dataloader
        loader.dataset = {
            "type": "SeededDataset",
            "dataset": loader.dataset,
            "seed": randomness["seed"],
            "named_by": list(task.named_by),
        }
        loader.sampler = {"type": "EpochSampler", "sampler": loader.sampler}
    else:
        logger.info("train_cfg counts iterations: resuming will not repeat the data's order")
    hooks = [h for h in cfg.get("custom_hooks") or [] if h["type"] != "PlainCheckpointHook"]
    if not any(hook["type"] == "FiniteLossHook" for hook in hooks):
        hooks.append({"type": "FiniteLossHook"})
    cfg.custom_hooks = [*hooks, {"type": "PlainCheckpointHook", "facts": dict(metadata)}]


def fit_loaders(cfg: Config) -> None:
    """Ask for no more workers than there are cores, and for nothing they or a CPU lack."""
    cores = cpu_cores()
    for split in datasets(cfg):
        loader = cfg[f"{split}_dataloader"]
        loader.num_workers = min(loader.get("num_workers", 0), cores)
        if not loader.num_workers:
            loader.persistent_workers = False
            loader.pop("prefetch_factor", None)
        if not torch.cuda.is_available():
            loader.pop("pin_memory", None)


@contextlib.contextmanager
def _processes() -> Iterator[None]:
    """Join the other processes of torchrun, over gloo where there is no GPU."""
    joined = {"RANK", "WORLD_SIZE"} <= os.environ.keys()
    if not joined or torch.cuda.is_available() or distributed.is_initialized():
        yield
        return
    os.environ.setdefault("MKL_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    distributed.init_process_group("gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def global_state() -> Iterator[None]:
    """Take out of mmengine's global tables what is put in meanwhile, and put random states back."""
    before = {kind: set(kind._instance_dict) for kind in _subclasses(ManagerMixin)}
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        for kind in _subclasses(ManagerMixin):
            for name in set(kind._instance_dict) - before.get(kind, set()):
                held = kind._instance_dict.pop(name)
                for handler in list(getattr(held, "handlers", [])):
                    handler.close()
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


def _subclasses(parent: Any) -> Iterator[Any]:
    for child in parent.__subclasses__():
        yield child
        yield from _subclasses(child)


def _close(runner: Runner) -> None:
    """End the loaders' worker processes and the writers of curves."""
    runner.visualizer.close()
    for loop in (runner._train_loop, runner._val_loop):
        iterator = getattr(getattr(loop, "dataloader", None), "_iterator", None)
        if iterator is not None:
            loop.dataloader._iterator = None
            iterator._shutdown_workers()
