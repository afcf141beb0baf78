"""Training configs: read, changed from the command line, and what the guide writes made to work."""

import contextlib
import difflib
import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner

logger = logging.getLogger(__name__)

FACTS = "recognizer"
# Keys at the top of a config that mmengine's Runner or we read.
_READ = {
    *inspect.signature(Runner.__init__).parameters, "custom_imports", "class_weight_from", FACTS,
    "fp16", "sync_bn", "model_wrapper_cfg", "find_unused_parameters", "compile",
    "activation_checkpointing", "efficient_conv_bn_eval", "resume_from",
} - {"self", "cfg"}  # fmt: skip


# Keys of mmcv 1.x, which guides still name, and what mmengine reads in their place.
_OLD = {
    "total_epochs": "train_cfg.max_epochs",
    "lr_config": "param_scheduler",
    "optimizer_config": "optim_wrapper.clip_grad",
    "evaluation": "train_cfg.val_interval and default_hooks.checkpoint.save_best",
    "checkpoint_config": "default_hooks.checkpoint",
    "log_config": "default_hooks.logger and vis_backends",
    "data": "train_dataloader, val_dataloader and test_dataloader",
    "samples_per_gpu": "train_dataloader.batch_size",
    "workers_per_gpu": "train_dataloader.num_workers",
    "optimizer": "optim_wrapper.optimizer",
    "max_epochs": "train_cfg.max_epochs",
    "runner": "train_cfg",
    "workflow": "train_cfg.val_interval",
    "total_iters": "train_cfg.max_iters",
}
_OLD_ANYWHERE = ("samples_per_gpu", "workers_per_gpu", "total_epochs")
# Some names may as well be variables of a modern config: those with the value that is read ...
_VARIABLES = {
    "optimizer": ("optim_wrapper", "optimizer"),
    "max_epochs": ("train_cfg", "max_epochs"),
}
_OLD_DATA = ("samples_per_gpu", "workers_per_gpu", "train", "val", "test")  # ... or without these
_PLAIN = (RuntimeError, ValueError)  # what is derived from them says itself what it is
_NEEDED = ("model", "train_dataloader", "train_cfg", "optim_wrapper")


class TrainConfigError(ValueError):
    """A config that can be read, but of which no training can be built."""


def read_train_config(path: Path, options: Sequence[str] = (), known: Sequence[str] = ()) -> Config:
    """Read a config of mmengine and change it as ``--cfg-options`` say.

    ``fp16 = dict(loss_scale=...)`` becomes AmpOptimWrapper.

    Args:
        path: a config file.
        options: changes such as ``train_cfg.max_epochs=50``; lists are written ``[15,25]``, and
            their items are reached by number.
        known: keys at the top of a config that the caller reads, besides the Runner's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, or a change that would change nothing.

    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a training config at {path}, found none")
    try:
        cfg = Config.fromfile(str(path))
    except (Exception, SystemExit) as error:  # it is a program: it can raise anything
        what = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path}: not a config of mmengine: {what}") from error
    _refuse_old(cfg, path)
    changes = _parse(options)
    _check_changes(cfg, changes, {*_READ, *known})
    try:
        cfg.merge_from_dict(changes)
    except (KeyError, TypeError, IndexError, AssertionError, AttributeError) as error:
        raise ValueError(f"--cfg-options {' '.join(options)}: {error}") from error
    for name in _NEEDED:
        if not isinstance(cfg.get(name), Mapping):
            found = repr(cfg.get(name))[:60]
            raise ValueError(f"{path}: expected {name} = dict(...) to train with, got {found}")
    _check_values(cfg, path)
    modernise(cfg)
    return cfg


def _check_values(cfg: Config, path: Path) -> None:
    """Refuse values that mmengine would find wrong late, in words of its own."""
    for key in ("max_epochs", "max_iters"):
        most = cfg.train_cfg.get(key, 1)
        if type(most) is not int or most < 1:
            raise ValueError(f"{path}: train_cfg.{key}: expected a number above 0, got {most!r}")
    resume, mode = cfg.get("resume"), cfg.get("compile")
    if resume is not None and not isinstance(resume, bool):
        raise ValueError(f"{path}: resume: expected True or False, got {resume!r}")
    if mode is not None and not isinstance(mode, bool | Mapping):
        raise ValueError(
            f"{path}: compile: expected True, False or options of torch.compile such as "
            f"dict(mode='reduce-overhead'), got {mode!r}"
        )
    named = cfg.get("resume_from")
    if named is not None and not isinstance(named, str):
        raise ValueError(f"{path}: resume_from: expected the path of a checkpoint, got {named!r}")
    backend = mode.get("backend") if isinstance(mode, Mapping) else None
    known = torch.compiler.list_backends(exclude_tags=()) if backend is not None else []
    if isinstance(backend, str) and backend not in known:
        raise ValueError(f"{path}: compile.backend: expected one of {known}, got {backend!r}")


def _refuse_old(cfg: Config, path: Path) -> None:
    """Refuse keys of a config that would be read by nobody and change nothing."""
    found = [f"{key} is now {_OLD[key]}" for key in _OLD if key in cfg and _is_old(cfg, key)]
    if found:
        raise ValueError(
            f"{path}: expected a config of mmengine, got keys of mmcv 1.x that nobody reads: "
            f"{'; '.join(found)}"
        )


def _is_old(cfg: Config, key: str) -> bool:
    value = cfg[key]
    if key in _VARIABLES:
        section, name = _VARIABLES[key]
        return bool(value != (cfg.get(section) or {}).get(name))
    return key != "data" or (isinstance(value, Mapping) and any(x in value for x in _OLD_DATA))


def _parse(options: Sequence[str]) -> dict[str, Any]:
    for option in options:
        key, equals, _ = option.partition("=")
        if not equals or not key:
            raise ValueError(f"--cfg-options: expected key=value, got {option!r}")
    holder = SimpleNamespace(changes={})
    try:
        DictAction([], "changes")(None, holder, list(options))
    except (ValueError, AssertionError) as error:
        raise ValueError(f"--cfg-options {' '.join(options)}: {error}") from error
    return dict(holder.changes)


def _check_changes(cfg: Config, changes: Mapping[str, Any], read: set[str]) -> None:
    """Refuse what nobody reads: a misspelt key, or a variable that was only used above."""
    for key in changes:
        top = key.partition(".")[0]
        if top not in read:
            close = difflib.get_close_matches(top, read, 1, 0.7)
            hint = f"; did you mean {close[0]}?" if close else ""
            if top in _OLD:
                last = key.rpartition(".")[2]
                hint = f"; mmengine reads {_OLD.get(last, _OLD[top])} in its place"
            elif top in cfg:
                hint = (
                    "; mmengine keeps no aliases, so change it where it is used, such as "
                    "train_dataloader.dataset.ann_file or train_dataloader.dataset.pipeline.1.feats"
                )
            raise ValueError(f"--cfg-options {key}: changing it would change nothing{hint}")
        if not _has(cfg, key):
            if (last := key.rpartition(".")[2]) in _OLD_ANYWHERE:
                raise ValueError(f"--cfg-options {key}: mmengine reads {_OLD[last]} in its place")
            logger.info("--cfg-options %s: a key that the config did not have", key)


def _has(value: Any, key: str) -> bool:
    for part in key.split("."):
        if isinstance(value, list | tuple):
            if not part.isdigit() or int(part) >= len(value):
                return False
            value = value[int(part)]
        elif isinstance(value, Mapping | Config) and part in value:
            value = value[part]
        else:
            return False
    return True


def modernise(cfg: Config) -> None:
    """Turn keys of the guide that today's libraries do not read into those they read.

    Raises:
        ValueError: fp16 on a machine without a GPU, with what works there.

    """
    if (half := cfg.get("fp16")) is not None:
        if not torch.cuda.is_available():
            raise ValueError(
                "fp16: a CPU computes in bfloat16 only; take fp16 out and use --cfg-options "
                "optim_wrapper.type=AmpOptimWrapper optim_wrapper.dtype=bfloat16"
            )
        scale = half.get("loss_scale", "dynamic")
        scale = float(scale) if isinstance(scale, int) else scale
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.loss_scale = scale
        cfg.optim_wrapper.dtype = "float16"
        cfg.pop("fp16")
        logger.info("fp16: training with AmpOptimWrapper, loss_scale %s", scale)


@contextlib.contextmanager
def config_faults(cfg: Config, begun: Callable[[], bool], source: Path | None) -> Iterator[None]:
    """Say of what mmengine or torch cannot build that it is the config, not the program.

    Args:
        cfg: what is built.
        begun: tells whether an iteration has gone well; what fails later is something else.
        source: the checkpoint that is gone on from.

    Raises:
        TrainConfigError: a misspelt key, a wrong type, sizes that do not fit each other.

    """
    try:
        yield
    except (AssertionError, AttributeError, LookupError, TypeError, *_PLAIN) as error:
        own = isinstance(error, _PLAIN) and type(error) not in _PLAIN
        # mmengine hands what a hook does not know on to what it calls at the first epoch's end.
        late = begun() and "unexpected keyword argument" not in str(error)
        if own or late:
            raise
        wanted = " or ".join(filter(None, [str(cfg.filename or "the config"), str(source or "")]))
        raise TrainConfigError(
            f"no training can be built: {type(error).__name__}: {error}; look in {wanted} (and "
            "--cfg-options) for a misspelt key, a value of the wrong type, or sizes that do not "
            "fit each other"
        ) from error


def datasets(cfg: Config) -> dict[str, ConfigDict]:
    """Return the innermost data set's config of each loader there is, by train, val, test."""
    found = {}
    for split in ("train", "val", "test"):
        loader = cfg.get(f"{split}_dataloader")
        if loader is None:
            continue
        dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
        while isinstance(dataset, Mapping) and "ann_file" not in dataset:
            dataset = dataset.get("dataset")
        if not isinstance(dataset, Mapping) or not isinstance(dataset["ann_file"], str):
            raise TrainConfigError(f"{split}_dataloader: expected a dataset with an ann_file")
        found[split] = dataset
    return found
