"""Read a Dockerfile into its steps: for the tests, and for running it where no engine is.

Covers what deploy/Dockerfile uses (https://docs.docker.com/reference/dockerfile): stages, ARG,
ENV, COPY with --from, RUN, and continued lines. Here-documents and other escape characters are
refused rather than read wrongly.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

INSTRUCTIONS = {
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:[-+])([^}]*))?\})")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its name in capitals, its text on one line, and where it begins."""

    name: str
    text: str
    line: int


@dataclass(slots=True)
class Stage:
    """A FROM and what follows it. ``name`` is its alias, ``parent`` what it starts from."""

    name: str
    parent: str
    steps: list[Instruction] = field(default_factory=list)


def read_instructions(text: str) -> list[Instruction]:
    """Return the instructions of a Dockerfile.

    Raises:
        ValueError: an unknown instruction, a here-document or another escape character.

    """
    found: list[Instruction] = []
    parts: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.lower().replace(" ", "").startswith("#escape="):
            raise ValueError(f"line {number}: expected the usual escape character, a backslash")
        if stripped.startswith("#") or not (stripped or parts):
            continue  # comments may stand between continued lines
        start = start if parts else number
        parts.append(stripped.removesuffix("\\").strip())
        if not stripped.endswith("\\"):
            found.append(_instruction(" ".join(filter(None, parts)), start))
            parts = []
    if parts:
        raise ValueError(f"line {start}: an instruction that never ends")
    return found


def _instruction(text: str, line: int) -> Instruction:
    name, _, rest = text.partition(" ")
    if name.upper() not in INSTRUCTIONS:
        raise ValueError(f"line {line}: {name!r} is no instruction of a Dockerfile")
    if name.upper() in {"RUN", "COPY", "ADD"} and "<<" in rest:
        raise ValueError(f"line {line}: here-documents are not read here")
    return Instruction(name.upper(), rest.strip(), line)


def read_stages(text: str) -> tuple[list[Instruction], dict[str, Stage]]:
    """Return what stands before the first FROM, and the stages by name, in order.

    Raises:
        ValueError: as ``read_instructions``; a stage without a name, or two of one name.

    """
    before: list[Instruction] = []
    stages: dict[str, Stage] = {}
    steps = before
    for step in read_instructions(text):
        if step.name != "FROM":
            steps.append(step)
            continue
        match = re.fullmatch(r"(\S+)\s+AS\s+(\S+)", step.text, re.IGNORECASE)
        if match is None or match[2] in stages:
            raise ValueError(f"line {step.line}: expected FROM <image> AS <new name>")
        stages[match[2]] = Stage(match[2], match[1])
        steps = stages[match[2]].steps
    return before, stages


def lineage(stages: Mapping[str, Stage], target: str) -> list[Stage]:
    """Return the stages that ``target`` is built on, the first one first, ``target`` last."""
    if target not in stages:
        raise ValueError(f"expected a stage of {', '.join(stages)}, got {target!r}")
    chain = [stages[target]]
    while chain[0].parent in stages:
        chain.insert(0, stages[chain[0].parent])
    return chain


def expand(text: str, values: Mapping[str, str]) -> str:
    """Put in values for $NAME, ${NAME}, ${NAME:-default} and ${NAME:+other}, as COPY or ENV do."""

    def value(match: re.Match[str]) -> str:
        known = values.get(match[1] or match[2], "")
        if match[3] == ":+":
            return match[4] if known else ""
        return known or (match[4] or "")

    return _VARIABLE.sub(value, text)


def copy_parts(step: Instruction) -> tuple[str | None, list[str], str]:
    """Return the stage that a COPY takes from (None: the context), its sources and its goal.

    Raises:
        ValueError: a flag other than --from.

    """
    words = shlex.split(step.text)
    flags = [word for word in words if word.startswith("--")]
    stage = None
    for flag in flags:
        if not flag.startswith("--from="):
            raise ValueError(f"line {step.line}: {flag}: only --from is read here")
        stage = flag.removeprefix("--from=")
    *sources, goal = [word for word in words if not word.startswith("--")]
    return stage, sources, goal


def shell_lines(text: str, target: str, arguments: Mapping[str, str]) -> Iterator[str]:
    """Yield one line of shell per step of ``target``: calls of functions that the caller defines.

    ``step_run USER FOLDER NAME=VALUE... -- COMMAND``, ``step_copy STAGE FOLDER SOURCE... GOAL``
    (STAGE is . for the context) and ``step_workdir FOLDER``; stages that a COPY takes from come
    first, as ``step_stage NAME`` and ``step_fill NAME SOURCE... GOAL``.

    At last ``step_end USER FOLDER NAME=VALUE...``: how a container of it starts.

    Args:
        text: the Dockerfile.
        target: the stage to build.
        arguments: build arguments; others have their defaults.

    """
    before, stages = read_stages(text)
    chain = lineage(stages, target)
    for stage in _taken_from(chain, stages):
        yield f"step_stage {shlex.quote(stage.name)}"
        for step in stage.steps:
            _, sources, goal = copy_parts(step)
            yield shlex.join(["step_fill", stage.name, *sources, goal])
    state = _State(dict(arguments))
    for step in [*before, *(step for stage in chain for step in stage.steps)]:
        yield from state.take(step)
    kept = [f"{name}={value}" for name, value in state.kept.items()]
    yield shlex.join(["step_end", state.user, state.folder, *kept])


@dataclass(slots=True)
class _State:
    """What earlier steps mean for the next one."""

    arguments: dict[str, str]
    user: str = "0:0"
    folder: str = "/"
    values: dict[str, str] = field(default_factory=dict)  # while building: ARG and ENV
    kept: dict[str, str] = field(default_factory=dict)  # when it runs: ENV

    def take(self, step: Instruction) -> Iterator[str]:
        match step.name:
            case "ARG":
                self.values |= _argument(step, self.arguments, self.values)
            case "ENV":
                self.kept |= _variables(step, self.values)
                self.values |= self.kept
            case "USER":
                self.user = expand(step.text, self.values)
            case "WORKDIR":
                self.folder = expand(step.text, self.values)
                yield shlex.join(["step_workdir", self.folder])
            case "RUN":
                given = [f"{name}={value}" for name, value in self.values.items()]
                yield shlex.join(["step_run", self.user, self.folder, *given, "--", step.text])
            case "COPY":
                stage, sources, goal = copy_parts(step)
                goal = expand(goal, self.values)
                yield shlex.join(["step_copy", stage or ".", self.folder, *sources, goal])


def _taken_from(chain: Sequence[Stage], stages: Mapping[str, Stage]) -> list[Stage]:
    names = [copy_parts(step)[0] for stage in chain for step in stage.steps if step.name == "COPY"]
    found = [stages[name] for name in dict.fromkeys(names) if name is not None]
    for stage in found:
        if stage.parent != "scratch" or any(step.name != "COPY" for step in stage.steps):
            raise ValueError(f"stage {stage.name}: expected FROM scratch and COPY only")
    return found


def _argument(
    step: Instruction, arguments: Mapping[str, str], values: Mapping[str, str]
) -> dict[str, str]:
    name, equals, default = step.text.partition("=")
    if name in arguments:
        return {name: arguments[name]}
    return {name: expand(default, values)} if equals else {}


def _variables(step: Instruction, values: Mapping[str, str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in shlex.split(step.text)]
    return {name: expand(value, values) for name, _, value in pairs}
