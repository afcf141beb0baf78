"""Texts of ``--help`` and ``--mode X --help``: modes, their flags and settings."""

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from recognizer.command import FINDS, FLAGS, READS, Flag
from recognizer.installation import CALL, INSTALLED, SHIPPED_CONFIG

_WIDTH = 100


def help_text(modes: Mapping[str, str], mode: str | None) -> str:
    """Return the text of ``--help``.

    Args:
        modes: name -> description.
        mode: the mode named beside it; None: general help.

    """
    return _general(modes) if mode is None else _of_mode(mode, modes[mode])


def list_text(modes: Mapping[str, str]) -> str:
    """Return the text of ``--list-modes``; ``modes`` as for ``help_text``."""
    width = max(map(len, modes))
    return "".join(f"{name:{width}}  {about}\n" for name, about in modes.items())


def _general(modes: Mapping[str, str]) -> str:
    lines = [
        f"usage: {CALL} --mode MODE [--config FILE] [--set KEY=VALUE ...] [flags of the mode]",
        "",
        "CCTV video to fight and fall detectors.",
        "",
        "modes:",
        *(f"  {line}" for line in list_text(modes).splitlines()),
        "",
        f"{CALL} --mode MODE --help shows a mode's flags and settings with their defaults.",
        "",
        *_common_flags(),
        "",
        "flags of some modes, refused by the others:",
        *(line for flag in FLAGS for line in _flag(flag, of_modes=True)),
        "",
        "Exit codes: 0 done, 1 failed, 2 bad command or config, 3 some inputs refused, "
        "130 stopped.",
    ]
    return "\n".join(lines) + "\n"


def _of_mode(mode: str, about: str) -> str:
    flags = [flag for flag in FLAGS if mode in flag.modes]
    lines = [f"--mode {mode}: {about}", "", *_common_flags()]
    if flags:
        lines += ["", "flags of this mode:"]
        lines += [line for flag in flags for line in _flag(flag, f" Sets {flag.modes[mode]}.")]
    finds = FINDS.get(mode, ())
    if finds:
        lines += [
            "",
            *textwrap.wrap(
                "It finds what earlier modes left by the same settings as theirs: "
                f"{', '.join(name for name in finds if name not in READS[mode])}.",
                _WIDTH,
            ),
        ]
    lines += ["", f"settings that it reads, with their defaults ({SHIPPED_CONFIG}):", ""]
    text = SHIPPED_CONFIG.read_text(encoding="utf-8").splitlines()
    if INSTALLED:  # its paths are then those of the working folder
        text = [line.replace("../", "") for line in text]
    lines += _blocks(text, READS[mode])
    return "\n".join(lines) + "\n"


def _common_flags() -> list[str]:
    return [
        "flags of every mode:",
        "  --config FILE     settings of your own; what it leaves out has the default",
        "  --set KEY=VALUE   replace one setting, such as annotation.workers=2; again for more",
        "  --debug           log more, and show tracebacks",
        "  --list-modes      list the modes and stop",
        "  --version         show the versions of recognizer, Python and what runs networks",
    ]


def _flag(flag: Flag, more: str = "", *, of_modes: bool = False) -> Iterator[str]:
    metavar = flag.options.get("metavar", "")
    several = " ..." if flag.options.get("nargs") == "+" else ""
    yield f"  {' '.join(filter(None, [flag.name, metavar]))}{several}"
    text = flag.about[0].upper() + flag.about[1:] + "." + more
    if of_modes:
        text += f" Modes: {', '.join(flag.modes)}."
    yield from textwrap.wrap(
        text, _WIDTH, initial_indent="      ", subsequent_indent="      ", break_on_hyphens=False
    )


def _blocks(text: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the lines of the config file for these sections or keys.

    With a key comes the comment above it, with a section also the heads of the sections around it.
    """
    kept: list[str] = []
    path: list[str] = []
    comment: list[str] = []
    inside = False
    for line in text:
        key = re.match(r"( *)([A-Za-z_0-9]+):", line)
        if key is None:
            is_comment = line.strip().startswith("#")
            if inside and line.strip() and not is_comment:  # a value that goes on
                kept.append(line)
            comment = [*comment, line] if is_comment else []
            continue
        depth = len(key[1]) // 2
        path = [*path[:depth], key[2]]
        name = ".".join(path)
        inside = any(f"{name}.".startswith(f"{one}.") for one in names)
        if inside or any(one.startswith(f"{name}.") for one in names):
            kept += [*(comment if inside else []), line]
        comment = []
    return kept
