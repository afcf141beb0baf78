"""The names that the files of a training config assign, read and lose, by their syntax.

mmengine runs a config and its bases one after another and merges what they leave behind. What a
base put into a loader is a value by then: a child that assigns the base's variable anew changes
nothing. The merged values do not show that; the files do.
"""

import ast
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from mmengine.fileio import load

from recognizer.runner.engine import Config

_BASE = "_base_"
_SHIPPED = ".mim"  # the folder of the configs of an installed library
_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_BRANCHES = (ast.If, ast.For, ast.While, ast.Try, ast.With)

Place = tuple[str, ...]


@dataclass
class ConfigFile:
    """One file of a config.

    Attributes:
        path: the file.
        inherits: it has bases.
        assigned: the line of the last assignment of each name at its top.
        unread: those of them that the file does not read after it.
        base_reads: names that it reads of its bases.
        base_changes: the line where it changes a variable of its bases in place.
        lost: name and both lines where a value is assigned anew before anything read it, and
            the one line that says both where that can be computed.
        tuples: name and line of values that a comma at their end makes tuples of.
        uses: for each name the places that its value is written to, each with whether the value
            goes there as it is.

    """

    path: Path
    inherits: bool = False
    assigned: dict[str, int] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    base_reads: set[str] = field(default_factory=set)
    base_changes: dict[str, int] = field(default_factory=dict)
    lost: list[tuple[str, int, int, str]] = field(default_factory=list)
    tuples: list[tuple[str, int]] = field(default_factory=list)
    uses: dict[str, list[tuple[Place, bool]]] = field(default_factory=dict)


def read_sources(path: Path) -> list[ConfigFile]:
    """Return the files of a config, bases before those that name them.

    Files that come with an installed library are left out: they are not the user's to change.

    Raises:
        OSError, SyntaxError, ValueError: a file that cannot be read.

    """
    if _SHIPPED in path.parts:
        return []
    text, read = _substituted(path)
    tree = ast.parse(text) if path.suffix == ".py" else ast.Module([], [])
    source = ConfigFile(path)
    bases = _read_bases_of(tree)
    if bases:
        source.base_reads = {n.id for n in ast.walk(tree) if _is_load(n)}  # type: ignore[attr-defined]
    if path.suffix == ".py":
        bases = bases or _named_bases(path, text)
        _Reader(source).read(tree)
    else:
        value = load(StringIO(text), path.suffix.removeprefix("."))
        bases = _as_list(value.pop(_BASE, []))
        source.assigned, source.unread = dict.fromkeys(value, 0), set(value)
    source.inherits = bool(bases)
    source.base_reads |= read
    found = [
        each for base in bases if "::" not in base for each in read_sources(path.parent / base)
    ]
    return [*found, source]


def places_of(name: str, sources: Sequence[ConfigFile], keys: set[str]) -> list[tuple[Place, bool]]:
    """Return where below ``keys`` the value of a variable ends, each with whether as it is."""
    uses = {key: found for source in sources for key, found in source.uses.items()}
    return list(_follow(name, uses, keys, frozenset()))


def _follow(
    name: str, uses: Mapping[str, list[tuple[Place, bool]]], keys: set[str], seen: frozenset[str]
) -> Iterator[tuple[Place, bool]]:
    for place, whole in uses.get(name, ()):
        if place[0] in keys:
            yield place, whole
        elif place[0] not in seen:
            for further, also in _follow(place[0], uses, keys, seen | {name}):
                yield (*further, *place[1:]), whole and also


# --- files -------------------------------------------------------------------------


def _substituted(path: Path) -> tuple[str, set[str]]:
    """Return the text that mmengine runs, and the variables of bases named by ``{{_base_.x}}``."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = str(Path(folder, path.name))
        Config._substitute_predefined_vars(str(path), scratch)
        Config._substitute_env_variables(scratch, scratch)
        named = Config._pre_substitute_base_vars(scratch, scratch)
        return Path(scratch).read_text(encoding="utf-8"), {
            x.partition(".")[0] for x in named.values()
        }


def _named_bases(path: Path, text: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder, path.name)
        scratch.write_text(text, encoding="utf-8")
        return list(Config._get_base_files(str(scratch)))


def _as_list(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def read_base_files(path: Path) -> list[str]:
    """Return the files that a config imports by ``with read_base():``; [] if it is no Python."""
    try:
        return _read_bases_of(ast.parse(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, SyntaxError):
        return []


def _read_bases_of(tree: ast.Module) -> list[str]:
    """Return the files that ``with read_base():`` imports by relative names."""
    found = []
    for block in tree.body:
        if isinstance(block, ast.With) and "read_base" in ast.unparse(block.items[0]):
            for node in block.body:
                if isinstance(node, ast.ImportFrom) and node.level and node.module:
                    up = "../" * (node.level - 1)
                    found.append(f"{up}{node.module.replace('.', '/')}.py")
    return found


# --- syntax ------------------------------------------------------------------------


def _is_load(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)


def _targets(node: ast.stmt) -> list[str]:
    """Return the plain names that a statement assigns."""
    if isinstance(node, ast.AnnAssign):
        targets: list[ast.expr] = [node.target] if node.value is not None else []
    else:
        targets = list(node.targets) if isinstance(node, ast.Assign) else []
    return [x.id for each in targets for x in ast.walk(each) if _is_store(x)]  # type: ignore[attr-defined]


def _is_store(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _base_name(node: ast.AST) -> str | None:
    """Return x of ``_base_.x`` or ``_base_["x"]``."""
    if not isinstance(node, ast.Attribute | ast.Subscript):
        return None
    if not (isinstance(node.value, ast.Name) and node.value.id == _BASE):
        return None
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.slice.value if isinstance(node.slice, ast.Constant) else None  # type: ignore[return-value]


class _Reader:
    """Goes through a file in the order in which Python does."""

    def __init__(self, source: ConfigFile) -> None:
        self.source = source
        self.order: list[tuple[str, str, int, bool]] = []  # what, name, line, always done
        self.values: dict[tuple[str, int], ast.expr | None] = {}

    def read(self, tree: ast.Module) -> None:
        self._statements(tree.body, always=True)
        later = {
            node.id
            for block in ast.walk(tree)
            if isinstance(block, _LATER)
            for node in ast.walk(block)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        self._account(later)
        self._find_lost(later)

    def _statements(self, body: list[ast.stmt], *, always: bool) -> None:
        for node in body:
            if isinstance(node, _BRANCHES):
                start = len(self.order)
                self._loads([x for x in ast.iter_child_nodes(node) if isinstance(x, ast.expr)])
                for part in ("body", "orelse", "finalbody"):
                    self._statements(getattr(node, part, []), always=isinstance(node, ast.With))
                for handler in getattr(node, "handlers", []):
                    self._statements(handler.body, always=False)
                if isinstance(node, ast.For | ast.While):  # read again in the next round
                    self.order += [each for each in self.order[start:] if each[0] == "read"]
            elif not isinstance(node, _LATER):
                self._statement(node, always=always)

    def _statement(self, node: ast.stmt, *, always: bool) -> None:
        names = [name for name in _targets(node) if name != _BASE]
        changed = self._changed(node)
        self._loads([node], without=changed)
        if isinstance(node, ast.Delete):
            gone = [x.id for x in node.targets if isinstance(x, ast.Name)]
            self.order += [("gone", name, node.lineno, always) for name in gone]
        value: ast.expr | None = getattr(node, "value", None)
        for name in names:
            self.order.append(("set", name, node.lineno, always))
            self.values[name, node.lineno] = value
            for one in [*self.source.uses]:
                self.source.uses[one] = [u for u in self.source.uses[one] if u[0][0] != name]
            self._uses(value, (name,))
        if len(names) == 1 and _is_accident(value):
            self.source.tuples.append((names[0], node.lineno))

    def _changed(self, node: ast.stmt) -> ast.AST | None:
        """Return the variable that a statement changes in place and does nothing else with."""
        part: ast.AST | None = None
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            part = node.targets[0]
        elif isinstance(node, ast.AugAssign):
            part = node.target
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            part = node.value.func
        if not isinstance(part, ast.Attribute | ast.Subscript):
            return None
        while isinstance(part, ast.Attribute | ast.Subscript) and _base_name(part) is None:
            part = part.value
        if part is not None and (name := _base_name(part)):
            self.source.base_changes[name] = node.lineno
        return part

    def _loads(self, nodes: Sequence[ast.AST], without: ast.AST | None = None) -> None:
        for top in nodes:
            for node in ast.walk(top):
                if node is without:
                    continue
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                    self.order.append(("read", node.id, node.lineno, True))
                elif (name := _base_name(node)) is not None:
                    self.source.base_reads.add(name)

    def _uses(self, node: ast.AST | None, place: Place) -> None:
        if node is None:
            return
        for key, child in _parts(node):
            self._uses(child, (*place, key))
        if not _is_container(node):
            names = {x.id for x in ast.walk(node) if isinstance(x, ast.Name)}
            for name in names:
                whole = isinstance(node, ast.Name)
                self.source.uses.setdefault(name, []).append((place, whole))

    def _account(self, later: set[str]) -> None:
        read = set(later)
        for what, name, line, _ in reversed(self.order):
            if what == "read":
                read.add(name)
            elif name not in self.source.assigned:
                self.source.assigned[name] = line
                if name not in read:
                    self.source.unread.add(name)
        for name in [n for what, n, *_ in self.order if what == "gone"]:
            self.source.assigned.pop(name, None)
            self.source.unread.discard(name)

    def _find_lost(self, later: set[str]) -> None:
        waiting: dict[str, int] = {}
        for what, name, line, always in self.order:
            if what == "set" and always and waiting.get(name, line) != line:
                both = [self.values[name, each] for each in (waiting[name], line)]
                self.source.lost.append((name, waiting[name], line, _joined(name, *both)))
            waiting.pop(name, None)
            if what == "set" and always and name not in later:
                waiting[name] = line


def _joined(name: str, one: ast.expr | None, other: ast.expr | None) -> str:
    """Return one assignment with the keys of two, "" if these are no dict(...)."""
    if one is None or other is None or not (_is_dict_call(one) and _is_dict_call(other)):
        return ""
    return f"{name} = {ast.unparse(_merged(one, other))}"


def _merged(one: ast.expr, other: ast.expr) -> ast.expr:
    if not (isinstance(one, ast.Call) and isinstance(other, ast.Call)):
        return other
    if not (_is_dict_call(one) and _is_dict_call(other)):
        return other
    found = {each.arg: each.value for each in one.keywords}
    for each in other.keywords:
        held = found.get(each.arg)
        found[each.arg] = each.value if held is None else _merged(held, each.value)
    return ast.Call(one.func, [], [ast.keyword(key, value) for key, value in found.items()])


def _is_accident(value: ast.AST | None) -> bool:
    return isinstance(value, ast.Tuple) and len(value.elts) == 1


def _is_container(node: ast.AST) -> bool:
    return bool(isinstance(node, ast.List | ast.Tuple | ast.Dict) or _is_dict_call(node))


def _is_dict_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict"


def _parts(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield the keys and values of dict(...), {...}, [...] and (...)."""
    if isinstance(node, ast.Call) and _is_dict_call(node):
        yield from ((each.arg, each.value) for each in node.keywords if each.arg)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant):
                yield str(key.value), value
    elif isinstance(node, ast.List | ast.Tuple):
        yield from ((str(index), value) for index, value in enumerate(node.elts))
