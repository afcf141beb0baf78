"""Read training configs, change them from the command line, and adapt keys of older versions."""

import ast
import contextlib
import inspect
import logging
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import torch
from mmengine.config import DictAction

from recognizer.openmmlab import Library, scope
from recognizer.runner.config_names import (
    refuse_keys,
    refuse_lacks,
    refuse_names,
    refuse_options,
)
from recognizer.runner.config_places import at
from recognizer.runner.config_source import ConfigFile, read_base_files, read_sources
from recognizer.runner.config_validation import refuse_unvalidated
from recognizer.runner.engine import Changes, Config, ConfigDict, Runner, Section
from recognizer.storage.artifacts import METADATA_KEY

logger = logging.getLogger(__name__)

# Keys at the top of a config that mmengine's Runner or we read.
_READ = {
    *inspect.signature(Runner.__init__).parameters,
    "custom_imports",
    "class_weight_from",
    METADATA_KEY,
    "fp16",
    "resume_from",
    "sync_bn",
    "model_wrapper_cfg",
    "find_unused_parameters",
    "compile",
    "activation_checkpointing",
    "efficient_conv_bn_eval",
} - {"self", "cfg"}


_PLAIN = (RuntimeError, ValueError)  # errors derived from them have messages of their own
_BASES = re.compile(r"^_base_\s*=\s*(.+)$", re.MULTILINE)
_MOST_BASES = 20
_NEEDED = ("model", "train_dataloader", "train_cfg", "optim_wrapper")


class TrainConfigError(ValueError):
    """A config that can be read, but of which no training can be built."""


@dataclass(frozen=True)
class ConfigRules:
    """What differs between the configs of the two libraries.

    Attributes:
        library: whose names the types are.
        known: keys at the top of a config that the caller reads, besides the Runner's.
        adapt: changes older keys into what the library takes.
        lacks: returns the values, by dotted path, that must follow from others and do not.

    """

    library: Library
    known: frozenset[str] = frozenset()
    adapt: Callable[[Config], None] = lambda cfg: None
    lacks: Callable[[Section], Section] = lambda sections: {}


def read_train_config(path: Path, options: Sequence[str], rules: ConfigRules) -> Config:
    """Read a config of mmengine and change it as ``--cfg-options`` say.

    What nothing reads is refused, with where it belongs: names at the top that are neither keys
    of the runner nor read by the file, keys that a section's class does not take.
    ``fp16 = dict(loss_scale=...)`` becomes AmpOptimWrapper.

    Args:
        path: a config file.
        options: changes such as ``train_cfg.max_epochs=50``; lists are written ``[15,25]``, and
            their items are reached by number.
        rules: the library's own.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read, or something in it would change nothing.

    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a training config at {path}, found none")
    try:
        cfg = Config.fromfile(str(path))
        sources = read_sources(path)
    except (Exception, SystemExit) as error:  # it is a program: it can raise anything
        raise ValueError(f"{path}: not a config of mmengine: {_unreadable(path, error)}") from error
    changes = _parse(options)
    read = {*_READ, *rules.known}
    with scope(rules.library):
        refuse_names(cfg, sources, read, rules.lacks)
        refuse_options(cfg, changes, sources, read)
        before = cfg.copy()
        try:
            cfg.merge_from_dict(changes)
        except (KeyError, TypeError, IndexError, AssertionError, AttributeError) as error:
            reason = _unmerged(before, changes, error)
            raise ValueError(f"--cfg-options {reason}") from error
        _check_needed(cfg, path)
        _check_values(cfg, path)
        modernise(cfg)
        rules.adapt(cfg)
        made_of = cache(lambda: [before, *_bases(sources)])
        alone = before if changes else cfg  # what the file says without the options
        refuse_keys(cfg, alone, read, made_of)
        refuse_lacks(cfg, alone, read, rules.lacks)
        refuse_unvalidated(cfg, rules.library, made_of, changes)
    for name in set(cfg.keys()) - read:  # mmengine writes down what ran: no variables of old values
        cfg.pop(name)
    return cfg


def _bases(sources: Sequence[ConfigFile]) -> list[Config]:
    return [Config.fromfile(str(source.path)) for source in reversed(sources[:-1])]


def _check_needed(cfg: Config, path: Path) -> None:
    for name in _NEEDED:
        if not isinstance(cfg.get(name), Mapping):
            found = repr(cfg.get(name))[:60]
            raise ValueError(f"{path}: expected {name} = dict(...) to train with, got {found}")


def _check_values(cfg: Config, path: Path) -> None:
    """Refuse values that mmengine would refuse late, in messages of its own."""
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


def _parse(options: Sequence[str]) -> Changes:
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


def modernise(cfg: Config) -> None:
    """Turn older keys that today's libraries do not read into those they read.

    Raises:
        ValueError: fp16 on a machine without a GPU, with what works there.

    """
    half = cfg.pop("fp16", None)
    if half is None or half is False:
        return
    if not torch.cuda.is_available():
        raise ValueError(
            "fp16: a CPU computes in bfloat16 only; write optim_wrapper = dict("
            "type='AmpOptimWrapper', dtype='bfloat16') in its place, or take fp16 out and use "
            "--cfg-options optim_wrapper.type=AmpOptimWrapper optim_wrapper.dtype=bfloat16"
        )
    given = half if isinstance(half, Mapping) else {}
    if given.keys() - {"loss_scale"} or not (half is True or isinstance(half, Mapping)):
        raise ValueError(f"fp16: expected dict(loss_scale=512.0) or True, got {half!r}")
    scale = given.get("loss_scale", "dynamic")
    scale = float(scale) if isinstance(scale, int) else scale
    cfg.optim_wrapper.type = "AmpOptimWrapper"
    cfg.optim_wrapper.loss_scale = scale
    cfg.optim_wrapper.dtype = "float16"
    logger.info("fp16: training with AmpOptimWrapper, loss_scale %s", scale)


@contextlib.contextmanager
def config_errors(cfg: Config, begun: Callable[[], bool], source: Path | None) -> Iterator[None]:
    """Turn errors of building or of the first iteration into errors of the config.

    Args:
        cfg: what is built.
        begun: returns whether an iteration has succeeded; later errors are not the config's.
        source: the checkpoint that the training resumes from.

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
        files = " or ".join(filter(None, [str(cfg.filename or "the config"), str(source or "")]))
        raise TrainConfigError(
            f"no training can be built: {type(error).__name__}: {error_text(error)}; look in "
            f"{files} (and --cfg-options) for a misspelt key, a value of the wrong "
            "type, or sizes that do not fit each other"
        ) from error


def datasets(cfg: Config) -> dict[str, ConfigDict]:
    """Return the innermost data set's config of each loader there is, by train, val, test."""
    found = {}
    for split in ("train", "val", "test"):
        loader = cfg.get(f"{split}_dataloader")
        if loader is None:
            continue
        dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
        while isinstance(dataset, Mapping) and not {"ann_file", "datasets"} & dataset.keys():
            dataset = dataset.get("dataset")
        if isinstance(dataset, Mapping) and "datasets" in dataset:
            raise TrainConfigError(
                f"{split}_dataloader: a data set of several ({dataset.get('type')}) is not "
                "supported: the annotations of the splits are checked and compared file by file, "
                "and each split is one file; merge the files into one and name it by ann_file (to "
                "see samples more often, use RepeatDataset around it)"
            )
        if not isinstance(dataset, Mapping) or not isinstance(dataset["ann_file"], str):
            raise TrainConfigError(f"{split}_dataloader: expected a dataset with an ann_file")
        found[split] = cast(ConfigDict, dataset)
    return found


# --- error messages -----------------------------------------------------------------


def _unreadable(path: Path, error: BaseException) -> str:
    """Return why a config file cannot be read."""
    if isinstance(error, RecursionError):
        circle = _circle(path, [path.resolve()])
        if circle:
            names = " -> ".join(each.name for each in circle)
            return f"its _base_ leads back to itself ({names}): name another file there"
    if "lazy_import" in str(error) and (bases := read_base_files(path)):
        named = f'"{bases[0]}"' if len(bases) == 1 else repr(bases)
        return (
            "it imports by `with read_base()` a config that inherits by _base_, and mmengine does "
            f"not mix the two; write _base_ = {named} in place of read_base()"
        )
    return f"{type(error).__name__}: {error_text(error)}"


def _circle(path: Path, chain: list[Path]) -> list[Path]:
    """Return the files from one to itself by ``_base_``, [] where no chain comes back."""
    try:
        text = path.read_text(encoding="utf-8")
        named = [ast.literal_eval(found) for found in _BASES.findall(text)[:1]]
    except (OSError, ValueError, SyntaxError):
        return []
    for base in named[0] if named and isinstance(named[0], list | tuple) else named:
        below = (path.parent / str(base)).resolve()
        if below in chain:
            return [*chain[chain.index(below) :], below]
        if len(chain) < _MOST_BASES and (found := _circle(below, [*chain, below])):
            return found
    return []


def _unmerged(cfg: Config, changes: Section, error: Exception) -> str:
    """Return which option cannot be put into a config, and why."""
    for key, value in changes.items():
        held = at(cfg, key)
        if isinstance(held, Mapping) and not isinstance(value, Mapping):
            kind = f" ({held['type']})" if held.get("type") else ""
            below = next(iter(held), "type")
            return (
                f"{key}={value}: a section{kind} stands there, and {value!r} is none; change a "
                f"key of it, such as {key}.{below}=..."
            )
        try:
            cfg.copy().merge_from_dict({key: value})
        except (KeyError, TypeError, IndexError, AssertionError, AttributeError) as own:
            return f"{key}={value}: {error_text(own)}"
    return error_text(error)


def error_text(error: BaseException) -> str:
    """Return the text of an exception; of one without text the line of code that raised it."""
    text = str(error).strip()
    if text and not text.endswith(":"):
        return text
    inner = error
    while text and (below := inner.__cause__ or inner.__context__):  # mmengine put a text before it
        inner = below
    frames = traceback.extract_tb(inner.__traceback__)
    if not frames:
        return text
    last = frames[-1]
    return f"{text} `{last.line}` ({Path(last.filename).name}, line {last.lineno})".strip()
