"""Refuse keys of a training config that nothing reads, and name their right place.

``mask_ratio = 0.5`` at the top of a config is a name like any other to mmengine: the
training is the baseline's, under a new name.
"""

import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from recognizer.runner.config_keys import unknown_keys
from recognizer.runner.config_lines import ConfigProblem, describe_problems
from recognizer.runner.config_places import advise, at, replaced, walk
from recognizer.runner.config_source import ConfigFile, places_of
from recognizer.runner.engine import Changes, Config, Section
from recognizer.runner.old_keys import old_key

logger = logging.getLogger(__name__)

Lacks = Callable[[Section], Section]
# Where a variable is used, and what computes the value there of it; None: unknown.
Use = tuple[str, Callable[[object], object] | None]
_REST = " (in a config that mmengine wrote they are left of variables: take them out)"
_NO_ALIASES = "the value is there already, for mmengine keeps no aliases"


def refuse_names(cfg: Config, sources: Sequence[ConfigFile], read: set[str], lacks: Lacks) -> None:
    """Refuse names at the top of the files that are no keys and that no file reads.

    Raises:
        ValueError: there are some, with what to write in their place.

    """
    sections = sections_of(cfg, read)
    for index, source in enumerate(sources):
        faults = list(_names(cfg, sections, sources[: index + 1], sources[index + 1 :]))
        faults += _lost(cfg, source, read)
        if faults:
            faults += _following(faults, sections, lacks)
            rest = "" if _is_written_by_hand(source) else _REST
            raise ValueError(
                f"{source.path}: expected keys that mmengine's Runner reads, or names that the "
                f"file itself reads; these change nothing{rest}"
                f":{describe_problems(faults, as_options=False)}"
            )


def refuse_options(
    cfg: Config, changes: Section, sources: Sequence[ConfigFile], read: set[str]
) -> None:
    """Refuse options whose first word is no key.

    Raises:
        ValueError: there are some, with what to write in their place.

    """
    sections = sections_of(cfg, read)
    faults = []
    for key, value in changes.items():
        top, _, rest = key.partition(".")
        if top not in read:
            uses = _uses(cfg, top, sources, read)
            faults.append(_fault(top, rest, value, sections, uses, by_option=True))
        elif at(cfg, key) is None:
            logger.info("--cfg-options %s: a key that the config did not have", key)
    if faults:
        raise ValueError(
            "--cfg-options: expected keys that mmengine's Runner reads; these would change nothing:"
            f"{describe_problems(faults, as_options=True)}"
        )


def refuse_keys(
    cfg: Config,
    before: Config,
    read: set[str],
    made_of: Callable[[], Sequence[Section]],
) -> None:
    """Refuse keys inside the sections that their classes do not take.

    Args:
        cfg: the config, changed by the options.
        before: the config without them.
        read: the keys at its top that are read.
        made_of: gives the configs that it was made of, the nearest first.

    Raises:
        ValueError: there are some, with what to write in their place.

    """

    def find(one: Config) -> list[ConfigProblem]:
        return unknown_keys(sections_of(one, read), made_of)

    _refuse(cfg, before, find, "would change nothing")


def refuse_lacks(cfg: Config, before: Config, read: set[str], lacks: Lacks) -> None:
    """Refuse values that do not fit those that they follow from.

    Raises:
        ValueError: there are some, with what to write in their place.

    """

    def find(one: Config) -> list[ConfigProblem]:
        return list(_following([], sections_of(one, read), lacks))

    _refuse(cfg, before, find, "do not fit the others")


def sections_of(cfg: Config, read: set[str]) -> Changes:
    """Return what is read of a config, by key."""
    return {key: cfg[key] for key in cfg if key in read}


def _refuse(
    cfg: Config, before: Config, find: Callable[[Config], list[ConfigProblem]], what: str
) -> None:
    """Refuse the faults of a config: those that the file has without the options, else theirs."""
    faults = find(cfg)
    if not faults:
        return
    keys = {fault.key for fault in faults}
    if own := [fault for fault in find(before) if fault.key in keys]:
        # items of lists cannot be inherited: the user's own line is to be mended
        faults = [replace(each, changes=_plain(each.changes)) for each in own]
    where = cfg.filename if own else "--cfg-options"
    raise ValueError(f"{where}: these {what}:{describe_problems(faults, as_options=not own)}")


def _plain(changes: Section) -> Changes:
    return {k: v for k, v in changes.items() if not any(map(str.isdigit, k.split(".")))}


# --- names -------------------------------------------------------------------------


def _names(
    cfg: Config, sections: Changes, until: Sequence[ConfigFile], after: Sequence[ConfigFile]
) -> Iterator[ConfigProblem]:
    """Yield the names of the last file of ``until`` that nothing reads."""
    source, read = until[-1], {name for later in after for name in later.base_reads}
    for name in sorted(source.unread, key=lambda each: source.assigned[each]):
        if name in sections or name in read or _repeats_value(name, cfg, sections, source):
            continue
        uses = _uses(cfg, name, until[:-1], set(sections))
        yield _fault(name, "", cfg.get(name), sections, uses)
    for name, line in source.base_changes.items():
        if name not in sections and name not in read | source.base_reads:
            uses = _uses(cfg, name, until[:-1], set(sections))
            places = " or ".join(place for place, _ in uses) or "where it is used"
            message = f"line {line} changes a variable of the base; change {places}: {_NO_ALIASES}"
            yield ConfigProblem(f"_base_.{name}", message)


def _fault(
    name: str,
    rest: str,
    value: object,
    sections: Section,
    uses: list[Use],
    *,
    by_option: bool = False,
) -> ConfigProblem:
    """Return where a name belongs, or below it the key ``rest``."""
    if uses:
        places = " or ".join(place for place, _ in uses)
        changes: Changes = {}
        for place, made in uses:
            if made is not None:
                below = f"{place}.{rest}" if rest else place
                changes |= replaced(below, made(value), at(sections, below))
        anew = " and ".join(place for place, made in uses if made is None)
        message = f"did you mean {places}; {_NO_ALIASES}{f'; compute {anew} anew' if anew else ''}"
        return ConfigProblem(name, message, changes)
    for part in reversed(rest.split(".") if rest else []):
        value = {part: value}
    if old := old_key(name, value, sections):
        place, changes = old
        places = (" and ".join(changes) if " and " in place else "") or place
        message = f"mmengine reads {places} in its place" if by_option else f"{name} is now {place}"
        return ConfigProblem(name, message, changes)
    advice = advise(name, value, sections)
    if not advice.places:
        return ConfigProblem(name, "neither a key nor a name that this config or its classes know")
    return ConfigProblem(name, f"did you mean {advice.places}", advice.changes)


def _uses(cfg: Config, name: str, sources: Sequence[ConfigFile], read: set[str]) -> list[Use]:
    """Return where a variable of the bases is used, each with what makes the value there of it.

    That is None where the value is computed in another way than by putting something behind it.
    """
    found: list[Use] = []
    places = places_of(name, sources, read)
    own = [source for source in sources if name in source.assigned]
    old = Config.fromfile(str(own[-1].path)).get(name) if places and own else None
    for parts, whole in places:
        place = ".".join(parts)
        held = at(cfg, place)
        if whole:
            found.append((place, lambda value: value))
        elif isinstance(held, str) and isinstance(old, str) and held.startswith(old):
            end = held.removeprefix(old)
            found.append((place, partial("{1}{0}".format, end)))
        else:
            found.append((place, None))
    return found


def _repeats_value(name: str, cfg: Config, sections: Section, source: ConfigFile) -> bool:
    """Return whether a whole config repeats by a name a value that it has anyway.

    mmengine writes what a training ran with as one file in which variables are values: there
    ``train_pipeline`` is read nowhere and equals the loader's.
    """
    if _is_written_by_hand(source):
        return False
    value, places = cfg.get(name), list(walk(sections))
    if isinstance(value, str):
        return any(isinstance(one, str) and value in one for _, one in places)
    if isinstance(value, Mapping | list | tuple):
        return any(one == value for _, one in places)
    return any(one == value for place, one in places if place.rpartition(".")[2] == name)


def _is_written_by_hand(source: ConfigFile) -> bool:
    return source.inherits or bool(source.uses)


def _lost(cfg: Config, source: ConfigFile, read: set[str]) -> Iterator[ConfigProblem]:
    """Yield sections that are assigned twice, and those that a comma makes tuples of."""
    for name, first, second, line in source.lost:
        if name in read:
            joined = f": {line}" if line else " with the keys of both"
            yield ConfigProblem(
                name, f"line {second} takes the place of line {first}; write one{joined}"
            )
    for name, at_line in source.tuples:
        if name in read and isinstance(cfg.get(name), tuple):
            message = f"the comma at the end of line {at_line} makes a tuple of it: take it out"
            yield ConfigProblem(name, message)


def _following(
    faults: Sequence[ConfigProblem], sections: Section, lacks: Lacks
) -> Iterator[ConfigProblem]:
    """Yield what must be written too once the faults' changes are."""
    trial = Config(copy.deepcopy(dict(sections)))
    for fault in faults:
        try:
            trial.merge_from_dict(copy.deepcopy(fault.changes))
        except (KeyError, TypeError, IndexError, AssertionError, AttributeError):
            return
    for place, value in lacks(trial).items():
        short = place.partition(".")[2]
        message = f"{short}={value!r} is missing: the rest asks for it, got {at(trial, place)!r}"
        yield ConfigProblem(place, message, {place: value})
