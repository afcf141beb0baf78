"""Where a key of a training config belongs: by what the config holds and what its classes take."""

import ast
import difflib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import mmengine.registry as registries
from mmengine.optim import _ParamScheduler
from torch import nn, optim
from torch.utils.data import DataLoader

from recognizer.runner.engine import (
    Changes,
    CheckpointHook,
    Config,
    Hook,
    OptimWrapper,
    Registry,
    Runner,
    Section,
)

_REGISTRIES = (
    "MODELS",
    "DATASETS",
    "TRANSFORMS",
    "DATA_SAMPLERS",
    "HOOKS",
    "OPTIM_WRAPPERS",
    "OPTIMIZERS",
    "PARAM_SCHEDULERS",
    "METRICS",
    "VISUALIZERS",
    "VISBACKENDS",
    "LOOPS",
    "LOG_PROCESSORS",
)
_EVERYWHERE = {"type", "_scope_"}
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
# Keys that the builders take out before they call the class.
_BUILT_WITH: tuple[tuple[type, set[str]], ...] = (
    (OptimWrapper, {"constructor", "paramwise_cfg", "optimizer"}),
    (DataLoader, {"num_batch_per_epoch", "disable_subprocess_warning"}),
    (_ParamScheduler, {"convert_to_iter_based", "epoch_length"}),
    (Hook, {"priority"}),
    *((norm, {"requires_grad"}) for norm in _NORMS),
)
# Arguments that the builders give: no keys of a config.
_GIVEN = {"self", "params", "optimizer", "model", "runner", "dataloader", "evaluator"}
# Keys of the libraries' earlier versions, and their names of today.
RENAMED = {
    "samples_per_gpu": "batch_size",
    "workers_per_gpu": "num_workers",
    "total_epochs": "max_epochs",
    "keypoint_head": "head",
    "grad_clip": "clip_grad",
    "img_prefix": "data_prefix",
    "loss_keypoint": "loss",
    "channel_cfg": "num_keypoints",
    "out_channels": "num_keypoints",
    "learning_rate": "lr",
    "epochs": "max_epochs",
}
_SAVED_WITH = set(inspect.signature(Runner.save_checkpoint).parameters) - {"self"}
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_MOST = 6
Reader = Callable[..., object]  # a class or function that a config gives arguments to


@dataclass(frozen=True)
class Advice:
    """Where a key belongs.

    Attributes:
        places: their dotted paths, joined by "or"; "" if none was found.
        changes: what to write there, by dotted path.

    """

    places: str
    changes: Changes = field(default_factory=dict)


@cache
def accepted(kind: Reader) -> frozenset[str] | None:
    """Return the keys that a config may give to a class or function; None if they may be any."""
    names, closed = _signature(kind)
    return names if closed else None


@cache
def _signature(kind: Reader) -> tuple[frozenset[str], bool]:
    """Return the keys that a class or function names, and whether it takes no others.

    Arguments are followed to the next class where ``**kwargs`` are handed on to it; other
    uses, such as AAGCN giving ``gcn_attention`` to its blocks, are not in a signature.
    """
    found, closed = set(_EVERYWHERE), False
    for one in kind.__mro__ if isinstance(kind, type) else (kind,):
        call = one.__dict__.get("__init__") if isinstance(kind, type) else one
        if call is None:
            continue
        try:
            parameters = inspect.signature(call).parameters.values()
        except (TypeError, ValueError):
            break
        found |= {each.name for each in parameters if each.kind in _NAMED}
        rest = [each.name for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD]
        if one is CheckpointHook:  # which hands the rest on, at the end of the first epoch
            found |= _SAVED_WITH
        closed = not rest or one is CheckpointHook
        if closed or not _is_handed_on(call, rest[0]):
            break
    found -= _GIVEN
    for base, more in _BUILT_WITH:
        if isinstance(kind, type) and issubclass(kind, base):
            found |= more
    return frozenset(found), closed


def _is_handed_on(call: Reader, name: str) -> bool:
    """Return whether an ``__init__`` only hands its ``**name`` on to its super's."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(call)))
    except (OSError, TypeError, SyntaxError):
        return False
    uses = sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))
    handed = [
        each
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and re.match(r"super\(.*\)\.__init__\(", ast.unparse(node))
        for each in node.keywords
        if each.arg is None and ast.unparse(each.value) == name
    ]
    return uses == len(handed) == 1


def class_of(name: object) -> type | None:
    """Return what is registered under a type's name in the current scope, None if nothing is."""
    if isinstance(name, type):
        return name
    found = _registered(name) if isinstance(name, str) else None
    return found[1] if found else None


def _registered(name: str) -> tuple[Registry, type] | None:
    scope = registries.DefaultScope.get_current_instance()
    return _looked_up(name, scope.scope_name if scope is not None else "mmengine")


@cache
def _looked_up(name: str, scope: str) -> tuple[Registry, type] | None:
    for key in _REGISTRIES:
        with getattr(registries, key).switch_scope_and_registry(scope) as registry:
            if (found := registry.get(name)) is not None:
                return registry, found
    return None


def is_hook(name: object) -> bool:
    """Return whether a type's name is that of a hook."""
    kind = class_of(name)
    return isinstance(kind, type) and issubclass(kind, Hook)


def others_with(name: str, key: str) -> list[str]:
    """Return the types registered beside a type, in one module with it, that take a key."""
    found = _registered(name)
    if found is None or found[1].__module__.startswith(optim.__name__):
        return []
    registry, kind = found
    return [
        other
        for other, one in registry.module_dict.items()
        if one.__module__ == kind.__module__ and key in _signature(one)[0]
    ]


# --- where a key belongs -----------------------------------------------------------


def walk(value: object, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dotted path below a config and what is there."""
    if isinstance(value, Mapping):
        pairs = [(str(key), one) for key, one in value.items()]
    elif isinstance(value, list | tuple):
        pairs = [(str(index), one) for index, one in enumerate(value)]
    else:
        return
    for key, one in pairs:
        below = f"{place}.{key}" if place else key
        yield below, one
        yield from walk(one, below)


def advise(
    name: str,
    value: object,
    config: Section,
    near: str = "",
    known: Iterable[str] = (),
) -> Advice:
    """Return where a key belongs that nothing reads at its place.

    Args:
        name: the key.
        value: what was to be set.
        config: the sections that are read, by name.
        near: the dotted path of the section that the key was found in, "" for the top.
        known: the keys that may stand there.

    """
    ways: tuple[Callable[[], list[str]], ...] = (
        lambda: _taken(RENAMED.get(name, ""), config, near) if near else [],
        lambda: _held(name, config, near),
        lambda: _alike(name, [f"{near}.{key}" if near else key for key in known or config]),
        lambda: _taken(name, config, near),
    )
    for find in ways:
        if found := find():
            return _advice(found, value, config)
    if isinstance(value, Mapping) and is_hook(value.get("type")):
        return _advice([f"default_hooks.{name}"], value, config)
    if beside := _beside(name, value, config, near):
        return beside
    places = _all_places(config)
    for find in (
        lambda: _taken(RENAMED.get(name, ""), config, near),
        lambda: _alike(name, [each for each in places if near and each.startswith(f"{near}.")]),
        lambda: _alike(name, places),
    ):
        if found := find():
            return _advice(found, value, config)
    return Advice("")


def _advice(found: list[str], value: object, config: Section) -> Advice:
    named = " or ".join(found[:_MOST])
    changes: Changes = {}
    for place in found[:_MOST]:
        changes |= replaced(place, value, at(config, place))
    return Advice(named, changes)


def replaced(place: str, value: object, held: object) -> Changes:
    """Return the change that puts a value where another one is; of another type, in its stead."""
    if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], Mapping):
        value = value[0]  # a comma at the end of the line
    if isinstance(value, Mapping) and isinstance(held, Mapping):
        old, new = held.get("type"), value.get("type")
        if new is not None and old is not None and old != new:
            return {place: {"_delete_": True, **value}}
        if any(map(str.isdigit, place.split("."))):
            return {place: {**held, **value}}
        return {f"{place}.{key}": one for key, one in value.items()} or {place: {}}
    return {place: value}


def at(config: object, place: str) -> Any:
    """Return what is at a dotted path, None if nothing is."""
    for part in place.split(".") if place else []:
        if isinstance(config, list | tuple) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        else:
            config = config.get(part) if isinstance(config, Mapping | Config) else None
    return config


def _held(name: str, config: Section, near: str) -> list[str]:
    """Return the places that hold the key; those of the same split, if it names one."""
    found = [place for place, _ in walk(config) if place.rpartition(".")[2] == name]
    inside = [place for place in found if near and place.startswith(f"{near}.")]
    return _of_split(name, inside or found)


def _of_split(name: str, found: list[str]) -> list[str]:
    for split in ("train", "val", "test"):
        if split in name.split("_"):
            return [place for place in found if place.startswith(split)] or found
    return found


def _alike(name: str, places: list[str]) -> list[str]:
    """Return the places whose key is spelt almost like the name."""
    by_key: dict[str, list[str]] = {}
    for place in places:
        key = place.rpartition(".")[2]
        if not key.isdigit() and key != name:
            by_key.setdefault(key, []).append(place)
    close = difflib.get_close_matches(name, by_key, 1, 0.75)
    close = close or [key for key in by_key if _contains(key, name) or _contains(name, key)][:1]
    return list(dict.fromkeys(by_key[close[0]])) if close else []


def _contains(longer: str, shorter: str) -> bool:
    return len(shorter) > 3 and len(longer) <= 2 * len(shorter) and shorter in longer


def _taken(name: str, config: Section, near: str) -> list[str]:
    """Return the places that hold no such key, but whose class takes it."""
    if not name:
        return []
    found = []
    for place, section in [("", config), *walk(config)]:
        if isinstance(section, Mapping) and name in _options(place, section):
            found.append(f"{place}.{name}" if place else name)
    inside = [place for place in found if near and place.startswith(f"{near}.")]
    return _of_split(name, inside or found)


def _options(place: str, section: Section) -> frozenset[str]:
    if place.endswith("_dataloader"):
        return _signature(DataLoader)[0]
    kind = class_of(section.get("type"))
    return _signature(kind)[0] - _EVERYWHERE if kind is not None else frozenset()


def _beside(name: str, value: object, config: Section, near: str) -> Advice | None:
    """Return the other type that takes the key, and its place."""
    for place, section in walk(config):
        kind = section.get("type") if isinstance(section, Mapping) else None
        if not isinstance(kind, str) or not place.startswith(near):
            continue
        if others := others_with(kind, name):
            takes, _ = _signature(class_of(others[0]))
            kept = {key: one for key, one in section.items() if key in takes and key != "type"}
            inherited = {"_delete_": True, "type": others[0], **kept, name: value}
            places = f"{place}.{name}, which {kind} does not take and {' or '.join(others)} does"
            return Advice(places, {place: inherited})
    return None


def _all_places(config: Section) -> list[str]:
    found = [place for place, _ in walk(config)]
    for place, section in walk(config):
        if isinstance(section, Mapping):
            found += [f"{place}.{key}" for key in sorted(_options(place, section))]
    return list(dict.fromkeys(found))
