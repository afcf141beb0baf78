"""Sections of a config that need a validation where there is none: mmengine trains on silently."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

from mmengine.optim.scheduler import ReduceOnPlateauParamScheduler

from recognizer.openmmlab import Library
from recognizer.runner.config_places import at, class_of, walk
from recognizer.runner.engine import Config, EarlyStoppingHook, Section

logger = logging.getLogger(__name__)

# A config of each library that validates.
_EXAMPLE: dict[Library, str] = {
    "mmaction": "configs/skeleton/stgcnpp/stgcnpp_enhanced_fight_detection_stable.py",
    "mmpose": "configs/body_2d_keypoint/sdpose/coco/sdpose_s_v1_stemnet_coco_256x192.py",
}
_SECTIONS = ("default_hooks", "custom_hooks", "param_scheduler")


def refuse_unvalidated(
    cfg: Config,
    library: Library,
    made_of: Callable[[], Sequence[Section]],
    changes: Section,
) -> None:
    """Refuse hooks and schedules that follow a validation, in a config that has none.

    Of a config that validates, its child may take the validation out: what it inherits then only
    gives a warning, and so do numbers that say when to validate.

    Args:
        cfg: the config, changed by the options.
        library: whose config it is.
        made_of: gives what it was made of: the file without the options, then its bases, the
            nearest first.
        changes: the options.

    Raises:
        ValueError: there are some, with the cure.

    """
    why = _why_not(cfg)
    if not why:
        return
    ancestors = made_of()
    followers = dict(_followers(cfg))
    refused = {
        place: message
        for place, message in followers.items()
        if not any((place, message) in _followers(old) and _may_have_them(old) for old in ancestors)
    }
    cure = _cure(why, library)
    if refused:
        lines = "".join(f"\n  {place}: {message}" for place, message in refused.items())
        raise ValueError(f"{cfg.filename}: {why}, so that these would never act:{lines}\n{cure}")
    idle = [*(f"{place} ({message})" for place, message in followers.items())]
    idle += _idle_numbers(cfg, ancestors, changes)
    if idle:
        logger.warning("%s: %s: %s will do nothing; %s", cfg.filename, why, ", ".join(idle), cure)


def _why_not(config: Section) -> str:
    """Return why a config never validates, "" if it does."""
    if config.get("val_dataloader") is None:
        return "there is no validation (val_dataloader is None)"
    loop = config.get("train_cfg") or {}
    begin = loop.get("val_begin", 1)
    most = loop.get("max_epochs", loop.get("max_iters"))
    if type(begin) is int and type(most) is int and begin > most:
        return f"validation never begins (train_cfg.val_begin {begin} is after the end, {most})"
    return ""


def _cure(why: str, library: Library) -> str:
    if "val_begin" in why:
        return "lower train_cfg.val_begin"
    return (
        "add val_dataloader, val_cfg and val_evaluator, as in "
        f"{_EXAMPLE[library]}, or take what follows them out"
    )


def _may_have_them(config: Section) -> bool:
    """Return whether a config may have such followers: it validates, or is a part without data."""
    return config.get("train_dataloader") is None or not _why_not(config)


def _followers(config: Section) -> Iterator[tuple[str, str]]:
    """Yield the sections that act on the result of a validation: their place and description."""
    for place, section in walk({key: config.get(key) for key in _SECTIONS}):
        if not isinstance(section, Mapping):
            continue
        kind = class_of(section.get("type"))
        if isinstance(kind, type) and issubclass(
            kind, EarlyStoppingHook | ReduceOnPlateauParamScheduler
        ):
            yield place, f"{section['type']} of {section.get('monitor', 'its metric')}"
        best = section.get("save_best")
        if best is not None and best != "auto":
            yield f"{place}.save_best", f"the best by {best}"


def _idle_numbers(cfg: Config, ancestors: Sequence[Section], changes: Section) -> Iterator[str]:
    """Yield the settings of when to validate that the options or the file itself make."""
    if cfg.get("val_dataloader") is not None:
        return
    own, base = ancestors[0], ancestors[1] if len(ancestors) > 1 else None
    for key, least in (("val_interval", cfg.train_cfg.get("max_epochs")), ("val_begin", None)):
        place = f"train_cfg.{key}"
        value = at(cfg, place)
        written = base is not None and _why_not(own) and at(own, place) != at(base, place)
        # val_interval=max_epochs is how a config without validation says so.
        asked = value is not None and (least is None or value < least)
        if asked and (place in changes or written):
            yield f"{place}={value}"
