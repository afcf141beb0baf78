"""Read and write mmengine's checkpoints as tensors, numbers and text only.

mmengine pickles objects of its own and NumPy's into a checkpoint, which torch >= 2.6 refuses to
load, for good reason: a pickle can run code. So before saving, everything is turned into tensors
and plain values (``to_plain``), and such a file loads with ``weights_only`` as it is. What other
programs saved is read too: mmengine's and NumPy's objects in it, which are log histories, become
``Dropped`` marks, never objects, so that nothing named in a file is ever called.

The config text in a checkpoint is Python. It is read as literals and never executed, and the
types it names are names of a registry, never of a module's function.
"""

import ast
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recognizer.runner.checkpoint_search import missing_checkpoint
from recognizer.runner.engine import Config

logger = logging.getLogger(__name__)

CONFIG_PARTS = ("model", "test_dataloader", "val_dataloader")
_PUBLISHED = "patch_to_embedding.weight"  # as SDPose's authors name it
_STEP_FILE = re.compile(r"(?:epoch|iter)_(\d+)\.pth")
_PLAIN = (bool, int, float, str, bytes, type(None), torch.Tensor, torch.dtype, torch.Size)
_MAX_TEXT = 4 * 2**20
_LONGEST_NAME = 4096  # of a path, on Linux

# What mmengine's own checkpoints name besides tensors; none of it is needed to use them.
_FOREIGN = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmengine.logging.logger.HistoryBuffer",
    "numpy.ndarray",
    "numpy.dtype",
    "builtins.getattr",
    "builtins.slice",
    "_codecs.encode",
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    *(f"numpy.dtypes.{sign}Int{bits}DType" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    *(f"numpy.dtypes.Float{bits}DType" for bits in (16, 32, 64)),
    *(f"numpy.dtypes.{name}DType" for name in ("Bool", "Str", "Bytes", "Object")),
)


class CheckpointError(ValueError):
    """A checkpoint that is damaged, of another kind, or asks for code to be run."""


class Dropped:
    """Placeholder for an object in a foreign checkpoint; it keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "Dropped":
        """Take any arguments and keep none."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Take any state and keep none of it."""

    def __repr__(self) -> str:
        """Return a short mark."""
        return "<dropped>"


def load_checkpoint(path: Path, *, device: str = "cpu") -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Returns:
        at least ``state_dict``, tensors by name. A bare state dict is wrapped so.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: damaged, of another kind, or naming what could run code.

    """
    if not path.is_file():
        raise FileNotFoundError(missing_checkpoint(path))
    stand_ins: list[Any] = [(Dropped, name) for name in _FOREIGN]
    try:
        with torch.serialization.safe_globals(stand_ins):
            loaded = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything
        raise CheckpointError(f"{path}: {_reason(error)}") from error
    return _checked(loaded, path)


def _reason(error: Exception) -> str:
    text = str(error)
    named = re.search(r"GLOBAL ([\w.]+)", text)
    if named:
        return (
            f"expected tensors and plain values, but it names {named[1]}, which could run code; "
            "it was not loaded. Use a checkpoint from a source you trust that holds weights only"
        )
    if "weights_only" in text:  # torch would advise to load it unsafely
        return "damaged, or not a checkpoint of torch"
    first = (text.splitlines() or [""])[0][:200]
    return f"damaged, or not a checkpoint of torch ({type(error).__name__}: {first})"


def _checked(loaded: Any, path: Path) -> dict[str, Any]:
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: expected a dict, got {type(loaded).__name__}")
    if "state_dict" not in loaded:
        loaded = {"state_dict": loaded}
    weights = loaded["state_dict"]
    named = isinstance(weights, Mapping) and all(isinstance(key, str) for key in weights)
    if not named or not weights or not all(torch.is_tensor(v) for v in weights.values()):
        raise CheckpointError(f"{path}: expected state_dict to hold tensors by name")
    for key, tensor in weights.items():
        if tensor.layout is not torch.strided or tensor.is_meta:
            raise CheckpointError(
                f"{path}: expected plain tensors with values, got {key} of layout {tensor.layout} "
                f"on {tensor.device}"
            )
    meta = loaded.setdefault("meta", {})
    if not isinstance(meta, dict):
        raise CheckpointError(f"{path}: expected meta to be a dict, got {type(meta).__name__}")
    meta.pop("config", None)  # mmengine's resume would execute it; ``cfg`` is what we read
    return dict(loaded)


# --- weights into a model ----------------------------------------------------------


def load_weights(
    model: torch.nn.Module,
    weights: Mapping[str, Any],
    path: Path,
    *,
    strict: bool,
    required: Collection[str] | None = None,
) -> None:
    """Load the weights of a checkpoint into a model; a warning names those that do not fit.

    Args:
        model: takes the weights that have a name and a shape of its own.
        weights: by name, with or without ``module.`` before it.
        path: where they are from.
        strict: refuse them where a required one is missing or of another shape.
        required: names of weights that the model needs; None: all, and strictly no others.

    Raises:
        CheckpointError: a required weight is missing or of another shape, or none fits.

    """
    given = {name.removeprefix("module."): value for name, value in weights.items()}
    own = {name: value.shape for name, value in model.state_dict().items()}
    fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k]}
    expected = own.keys() if required is None else {*required}
    unfit = [
        f"{k}: expected {tuple(own[k])}, got {tuple(given[k].shape)}" if k in given else k
        for k in sorted(expected - fitting.keys())
    ]
    extra = sorted(given.keys() - own.keys())
    published = any(name.endswith(_PUBLISHED) for name in given)
    if published or not fitting or (strict and (unfit or (extra and required is None))):
        hint = "; if it is a published SDPose, convert it first: --mode convert.sdpose"
        raise CheckpointError(
            f"{path}: its weights are of another network: it has none that fit {len(unfit)} of "
            f"the {len(expected)} expected, such as {_some(unfit, 3)}, and {len(extra)} with "
            f"names unknown here, such as {_some(extra, 3)}{hint if published else ''}"
        )
    if unfit or extra:
        logger.warning(
            "%s: %d of %d weights are missing or of another shape and stay as they were (%s); %d "
            "with unknown names are left out (%s)",
            path,
            len(unfit),
            len(expected),
            _some(unfit, 5),
            len(extra),
            _some(extra, 5),
        )
    model.load_state_dict(fitting, strict=False)


def _some(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) or "-"


# --- which file to go on from ------------------------------------------------------


def last_checkpoint(work_dir: Path) -> Path | None:
    """Return the checkpoint that training in this folder goes on from, None if there is none.

    ``last_checkpoint`` names it; where that file is missing or empty (a run was killed), it is
    the latest ``epoch_N.pth``. In a folder that was copied or renamed the name is of the old
    place: the file of this name here is taken.

    Raises:
        CheckpointError: ``last_checkpoint`` names a file outside the folder, or none.

    """
    pointer = work_dir / "last_checkpoint"
    text = _pointed(work_dir)
    if not text:
        latest = _latest_step(work_dir)
        return None if latest is None else inside(latest, work_dir)
    try:
        return _followed(text, work_dir)
    except CheckpointError:
        raise
    except (ValueError, OSError) as error:  # no name that a file can have
        raise CheckpointError(
            f"{pointer}: expected the name of a checkpoint ({error}); delete {pointer} to go on "
            "from the latest epoch_N.pth beside it"
        ) from error


def held_checkpoint(work_dir: Path) -> Path | None:
    """Return a checkpoint of the training that the folder holds, None if it holds none."""
    try:
        return last_checkpoint(work_dir)
    except CheckpointError:
        return _latest_step(work_dir)


def _followed(text: str, work_dir: Path) -> Path:
    """Return the checkpoint that the text of ``last_checkpoint`` names."""
    named, pointer = Path(text), work_dir / "last_checkpoint"
    here = work_dir / named.name
    if len(text) < _LONGEST_NAME and here.is_file():
        if here.resolve() != (here if named.name == text else named).resolve():
            logger.warning(
                "%s names %s, of another folder (was this one copied or renamed?); going on from "
                "%s, of the same name in this folder",
                pointer,
                text,
                here,
            )
        return inside(here, work_dir)
    found = inside(here if named.name == text else named, work_dir)
    if len(text) < _LONGEST_NAME and found.is_file():
        return found
    raise CheckpointError(
        f"{pointer}: names {text!r:.90}, which is not there; delete {pointer} to go on from "
        "the latest epoch_N.pth beside it"
    )


def _pointed(work_dir: Path) -> str:
    pointer = work_dir / "last_checkpoint"
    if not pointer.is_file():
        return ""
    return pointer.read_text(encoding="utf-8", errors="replace").strip()


def _latest_step(work_dir: Path) -> Path | None:
    steps = {
        int(match[1]): path
        for path in work_dir.glob("*.pth")
        if (match := _STEP_FILE.fullmatch(path.name))
    }
    return steps[max(steps)] if steps else None


def inside(path: Path, work_dir: Path) -> Path:
    """Return the path if it lies in the run's own folder, links followed.

    Raises:
        CheckpointError: it lies elsewhere.

    """
    folder = work_dir.resolve()
    resolved = (path if path.is_absolute() else Path.cwd() / path).resolve()
    if resolved.parent != folder:
        raise CheckpointError(
            f"resume: expected a checkpoint of this run, in {folder}, got {str(resolved)!r:.200}; "
            f"delete {folder / 'last_checkpoint'} to go on from the latest epoch_N.pth there; "
            "name another checkpoint to go on from with --resume <file>; to start from other "
            "weights, use --cfg-options load_from=<file> without --resume"
        )
    return resolved


# --- plain values ------------------------------------------------------------------


def to_plain(value: Any, name: str = "checkpoint") -> Any:
    """Return nested tensors, numbers and text; NumPy's and mmengine's objects are replaced.

    Raises:
        TypeError: a value that has no plain form; the message says which.

    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {
            _plain_key(key, name): to_plain(item, f"{name}.{key}")
            for key, item in value.items()
            if not callable(item) or torch.is_tensor(item)  # a scheduler's own function
        }
    if isinstance(value, list | tuple) and type(value) is not torch.Size:
        items = [to_plain(item, f"{name}[{i}]") for i, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if type(value) in _PLAIN or torch.is_tensor(value):
        return value.detach() if torch.is_tensor(value) else value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{name}: expected a tensor, a number or text, got {type(value).__name__}")


def _plain_key(key: Any, name: str) -> Any:
    if not isinstance(key, str | int | float):
        raise TypeError(f"{name}: expected text or a number as key, got {type(key).__name__}")
    return key


# --- the config in a checkpoint ----------------------------------------------------


def checkpoint_config(checkpoint: Mapping[str, Any], where: str = "checkpoint") -> Config:
    """Return the training config that a checkpoint holds, of literals only.

    Raises:
        CheckpointError: there is none, it is more than literals, or it names a type by the
            path of a module.

    """
    text = checkpoint.get("meta", {}).get("cfg")
    if not isinstance(text, str):
        raise CheckpointError(f"{where}: expected a config in meta['cfg'], found none")
    if len(text) > _MAX_TEXT:
        raise CheckpointError(f"{where}: a config of {len(text)} characters is none of ours")
    try:
        values = {}
        for statement in ast.parse(text).body:
            if not isinstance(statement, ast.Assign) or not isinstance(
                statement.targets[0], ast.Name
            ):
                raise ValueError(f"line {statement.lineno}: expected name = value")
            values[statement.targets[0].id] = ast.literal_eval(_Literals().visit(statement.value))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError) as error:
        raise CheckpointError(f"{where}: its config is more than plain values: {error}") from error
    for part in CONFIG_PARTS:
        _refuse_paths(values.get(part), f"{where}: {part}")
    return Config(values)


class _Literals(ast.NodeTransformer):
    """Writes ``dict(a=1)``, ``inf`` and ``float('inf')`` as literals; the rest stays."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id="dict"), args=[]):
                keys = [ast.Constant(k.arg) if k.arg else None for k in node.keywords]
                return ast.Dict(list(keys), [k.value for k in node.keywords])
            case ast.Call(func=ast.Name(id="dict"), args=[ast.Dict() as literal], keywords=[]):
                return literal
            case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(str(text))], keywords=[]):
                return ast.Constant(float(text))
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(float(node.id)) if node.id in ("inf", "nan") else node


def _refuse_paths(value: Any, where: str) -> None:
    """Refuse ``type='os.system'``: mmengine would import it and call it."""
    if isinstance(value, Mapping):
        kind = value.get("type")
        if kind is not None and not (isinstance(kind, str) and kind.isidentifier()):
            raise CheckpointError(
                f"{where}: expected the name of a registered type, got {kind!r}; not built"
            )
        for key, item in value.items():
            _refuse_paths(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_paths(item, where)
