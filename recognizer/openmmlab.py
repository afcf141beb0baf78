"""Import mmpose and mmaction2 on today's torch; nothing else does.

mmpose's models name three things of packages that are seldom there (full mmcv, mmdet,
torchvision) and that no model of ours builds. Where such a package is missing, a stand-in
holds its place while mmpose is imported and is taken away again, so that no other
package takes it for the real one; where it is installed, nothing is done.

Their registries know one current scope, which decides what the name of a type means.
``scope`` sets it for a block and puts back what was there: neither library leaks into
the other.
"""

import contextlib
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from recognizer.installation import COMMAND, INSTALLED, PIP_TRAINING

if TYPE_CHECKING:
    from torch import Tensor

Library = Literal["mmaction", "mmpose"]

# The modules whose import registers everything that configs can name.
_REGISTERING: dict[Library, tuple[str, ...]] = {
    "mmaction": ("datasets", "engine", "evaluation", "models", "structures", "visualization"),
    "mmpose": ("codecs", "datasets", "engine", "evaluation", "models", "visualization"),
}
_INSTALL = PIP_TRAINING if INSTALLED else f"run `make setup-dev`, or: {PIP_TRAINING}"


def load_mmaction() -> ModuleType:
    """Import mmaction2 and everything it registers; the current scope stays as it is.

    Raises:
        ImportError: the training set is not installed, with the command that does it.

    """
    return _load("mmaction")


def load_mmpose() -> ModuleType:
    """Import mmpose and everything it registers. Raises as ``load_mmaction``."""
    return _load("mmpose")


@contextlib.contextmanager
def scope(library: Library) -> Iterator[None]:
    """Build by the names of one library inside the block, and as before after it.

    Raises:
        ImportError: as ``load_mmaction``.

    """
    _load(library)
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(library):
        yield


def shipped_config(library: Library, name: str) -> Path:
    """Return the path of a config that comes with the library.

    Args:
        library: whose config.
        name: path below its ``configs`` folder, such as
            ``body_2d_keypoint/rtmo/body7/rtmo-s_8xb32-600e_body7-640x640.py``.

    Raises:
        FileNotFoundError: the library ships no such config.
        ImportError: as ``load_mmaction``.

    """
    path = Path(str(_load(library).__file__)).parent / ".mim" / "configs" / name
    if not path.is_file():
        raise FileNotFoundError(f"{library}: expected a shipped config at {path}, found none")
    return path


def _load(library: Library) -> ModuleType:
    try:
        with warnings.catch_warnings(), _stand_ins():
            # Deprecations inside these libraries and a note that mmcv is mmcv-lite.
            warnings.simplefilter("ignore")
            for part in _REGISTERING[library]:
                importlib.import_module(f"{library}.{part}")
    except ImportError as error:
        raise ImportError(
            f"{library}: expected the training set, but {error}; {_INSTALL}", name=error.name
        ) from error
    return sys.modules[library]


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Hold the places of missing modules while mmpose is imported."""
    placed = []
    for name, content in _MISSING_MODULES.items():
        if name not in sys.modules and not _is_installed(name):
            stand_in = ModuleType(name)
            vars(stand_in).update(content)
            for module in _with_parents(stand_in):
                sys.modules[module.__name__] = module
                placed.append(module)
    try:
        yield
    finally:
        for module in placed:
            if sys.modules.get(module.__name__) is module:
                del sys.modules[module.__name__]


def _is_installed(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    except (RuntimeError, OSError) as error:
        package = name.partition(".")[0]
        raise ImportError(
            f"{package} does not work with this torch ({error}); pip uninstall {package}",
            name=package,
        ) from error
    return True


def _with_parents(module: ModuleType) -> Iterator[ModuleType]:
    parent = module.__name__.rpartition(".")[0]
    if parent and parent not in sys.modules and importlib.util.find_spec(parent) is None:
        yield ModuleType(parent, "Stand-in for a package that is not installed.")
    yield module


def _unavailable(name: str, remedy: str) -> type:
    """Return a class that can be named and used with isinstance, but not instantiated."""

    def refuse(self: Any, *_: Any, **__: Any) -> None:
        raise NotImplementedError(f"{name} is not installed; {remedy}")

    return type(name.rpartition(".")[2], (), {"__init__": refuse, "__doc__": f"No {name} here."})


def _mean_over_processes(tensor: "Tensor") -> "Tensor":
    """Return the mean of a tensor over all training processes (RTMO's loss calls this)."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return tensor
    total = tensor.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


# Module -> its names that mmpose imports.
_MISSING_MODULES: dict[str, dict[str, object]] = {
    "mmcv.ops": {
        "MultiScaleDeformableAttention": _unavailable(
            "mmcv.ops.MultiScaleDeformableAttention", "build full mmcv 2.1 in place of mmcv-lite"
        )
    },
    # ConfigType is only ever an annotation.
    "mmdet.utils": {"ConfigType": dict, "reduce_mean": _mean_over_processes},
    "torchvision.transforms": {
        "ToPILImage": _unavailable(
            "torchvision.transforms.ToPILImage", "install the torchvision of this torch"
        )
    },
}


# --- pose networks -----------------------------------------------------------------

SHIPPED = "mmpose::"


def find_pose_config(name: str) -> Path:
    """Return the file that ``models.pose_estimation.pth.config_file`` names.

    Args:
        name: a path, or ``mmpose::<path below mmpose's configs folder>``.

    Raises:
        FileNotFoundError: no such file; where mmpose ships one of this file name, it is suggested.
        ImportError: as ``load_mmaction``, for a shipped config only.

    """
    key = "models.pose_estimation.pth.config_file"
    if name.startswith(SHIPPED):
        relative = name.removeprefix(SHIPPED)
        if ".." in Path(relative).parts or Path(relative).is_absolute():
            raise FileNotFoundError(f"{key}: expected mmpose::<path in its configs>, got {name}")
        try:
            return shipped_config("mmpose", relative)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{key}: {error}{_hint(key, Path(relative))}") from error
    if not name:
        raise FileNotFoundError(
            f"{key} is not set: inference_mode pth and deploy.export run a checkpoint (pth."
            f"checkpoint_path) by its mmpose config; set it to that file, or to one that mmpose "
            f"ships ({SHIPPED}body_2d_keypoint/rtmo/body7/rtmo-l_16xb16-600e_body7-640x640.py) "
            f"with its checkpoint: {COMMAND} --mode models.fetch --set models.fetch=rtmo-l"
        )
    path = Path(name).expanduser()
    if path.is_file():
        return path.absolute()
    where = f"{key}: expected a config of mmpose at '{name}', found none"
    raise FileNotFoundError(where + _hint(key, path))


def _hint(key: str, path: Path) -> str:
    same = _shipped_like(path.name)
    return f"; mmpose ships one of this name: {key}: {SHIPPED}{same}" if same else ""


def _shipped_like(file_name: str) -> str | None:
    """Return the path below mmpose's configs of a file of this name; mmpose is not imported."""
    found = importlib.util.find_spec("mmpose")
    if not file_name or found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / ".mim" / "configs"
    same = sorted(path for path in folder.rglob("*.py") if path.name == file_name)
    return same[0].relative_to(folder).as_posix() if same else None


def read_pose_config(path: Path) -> Any:
    """Read a config of mmpose; it is a program and runs here.

    Raises:
        ValueError: it cannot be read, or it has no model.
        ImportError: as ``load_mmaction``.

    """
    load_mmpose()
    from mmengine.config import Config

    try:
        config = Config.fromfile(str(path))
    except Exception as error:  # it can raise anything
        what = ": ".join(filter(None, (type(error).__name__, str(error))))
        raise ValueError(f"{path}: not a config of mmpose: {what}") from error
    if not isinstance(config.get("model"), dict) or "type" not in config.model:
        raise ValueError(f"{path}: expected model = dict(type=...), found none")
    return config


def build_pose_model(config: Any) -> Any:
    """Build the network of a config, in eval mode, with its initial weights.

    ``init_cfg`` and ``pretrained`` are left out: they would fetch files, and the weights come from
    the checkpoint.

    Args:
        config: of ``read_pose_config``.

    Raises:
        ValueError: nothing can be built of it.

    """
    model = without_initial_weights(config.model.to_dict())
    with scope("mmpose"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where mmpose found its own file on joints' names
        from mmpose.registry import MODELS

        try:
            return MODELS.build(model).eval()
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
            raise ValueError(f"{config.filename}: cannot be built: {error}") from error


def without_initial_weights(value: Any) -> Any:
    """Return a model's config without ``init_cfg`` and ``pretrained``, which fetch files."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in {"init_cfg", "pretrained"}}
        return {key: without_initial_weights(part) for key, part in kept.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_initial_weights(part) for part in value)
    return value
