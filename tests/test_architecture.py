"""The plan of the house, enforced: who imports whom, how long a file is, what stays light."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    "recognizer",
    "annotation",
    "training",
    "analysis",
    "deploy",
    "tools",
    "benchmarks",
    "tests",
    "configs",
)
# About 400 lines: a noun is not cut in halves for the last ten.
MAX_LINES, MAX_FUNCTION_LINES, MAX_MAIN_LINES = 450, 50, 140

# What a module right below recognizer/ may take from recognizer/. The order is the direction.
SPINE: dict[str, set[str]] = {
    "skeleton": set(),
    "installation": set(),
    "__main__": {"installation"},
    "command": {"config", "installation"},
    "config_types": {"names"},
    "config_zones": {"config_types", "names"},
    "config_action": {"config_types", "config_zones", "installation"},
    "config_models": {"config_types", "installation"},
    "config": {"command", "config_types", "config_action", "config_models", "installation"},
    "safe_pickle": set(),
    "openmmlab": {"installation"},
    "model_files": {"installation"},
    "names": set(),
    "types": {"skeleton"},
    "geometry": {"skeleton", "types"},
    "sequences": {"types"},
    "compact": {"skeleton", "types"},
    "movement": {"types"},
    "artifacts": {"compact", "safe_pickle", "types"},
    "config_file": {"command", "config", "config_types", "installation"},
    "doctor_backends": {"config", "config_types", "installation"},
    "doctor": {"config", "doctor_backends", "installation", "model_files"},
    "text": {"names"},
    "draw": {"skeleton", "text", "types", "geometry"},
}
# What a folder below recognizer/ may take besides its own files and the spine.
SIBLINGS: dict[str, set[str]] = {
    "backends": {"runner"},  # a network of torch is a config and a checkpoint
    "pose": {"backends"},
    "dataset": {"scoring"},  # a sample holds the people who matter most
    "action": {"backends", "dataset", "runner", "scoring"},
    "sdpose": {"backends", "runner"},
}
# What stands above the folders and puts them together; none of them may take it.
TOP: dict[str, set[str]] = {
    "models": {"action", "backends", "pose", "video"},
    "files": {"dataset"},
    "pipeline": {"action", "backends", "dataset", "models", "pose", "tracking", "video"},
}
FOLDERS = (
    "video",
    "backends",
    "pose",
    "tracking",
    "scoring",
    "dataset",
    "runner",
    "action",
    "sdpose",
)

# The folders above recognizer/ and which of each other they may use: training and analysis run
# the stages of annotation, which knows neither.
LAYERS: dict[str, set[str]] = {
    "annotation": set(),
    "training": {"annotation"},
    "analysis": {"annotation"},
    "deploy": set(),
}

# A large package -> the only parts of recognizer/ that may name it.
HEAVY = {
    "onnxruntime": {"backends"},
    "torch": {"backends", "runner", "action", "sdpose", "openmmlab"},
    "tensorrt": {"backends"},
    "av": {"video"},
    "mmengine": {"runner", "action", "sdpose", "openmmlab"},
    "mmcv": {"action", "openmmlab"},
    "mmpose": {"sdpose", "openmmlab"},
    "mmaction": {"action", "openmmlab"},
    "matplotlib": set(),
    "rich": set(),
    "argparse": set(),
}
VAGUE_FILES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core", "manager"}
VAGUE_CLASSES = ("Manager", "Factory", "Processor", "Helper", "Util", "Utils")
LIGHT = {
    "torch",
    "mmengine",
    "mmcv",
    "mmpose",
    "mmaction",
    "onnxruntime",
    "matplotlib",
    "sklearn",
    "cv2",
    "av",
}


def sources(*parts: str) -> list[Path]:
    found = [path for part in parts for path in sorted((ROOT / part).rglob("*.py"))]
    return [path for path in found if "__pycache__" not in path.parts]


def named(paths: list[Path]) -> list[object]:
    return [pytest.param(path, id=path.relative_to(ROOT).as_posix()) for path in paths]


def imports(path: Path) -> Iterator[str]:
    """Yield the full name of everything a file imports, inside functions too."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def place(path: Path) -> str:
    """Return the module or folder below recognizer/ that a file belongs to."""
    return path.relative_to(ROOT / "recognizer").parts[0].removesuffix(".py")


LIBRARY = sources("recognizer")


def test_there_is_something_to_check():
    assert len(LIBRARY) > 20


@pytest.mark.parametrize("path", named(LIBRARY))
def test_the_library_imports_in_one_direction(path):
    here = place(path)
    taken = {name.split(".")[1] for name in imports(path) if name.startswith("recognizer.")}
    taken -= {"__version__"}
    if here == "__init__":  # the library's face: names of every part, imported when they are used
        assert taken <= {*SPINE, *TOP, *FOLDERS}
    elif here in SPINE:
        assert taken <= SPINE[here]
    elif here in TOP:
        assert taken <= set(SPINE) - {"config_file", "doctor"} | TOP[here]
    else:
        assert here in FOLDERS, "a new part: add it to FOLDERS or SPINE on purpose"
        assert taken <= {here} | set(SPINE) - {"config_file", "doctor"} | SIBLINGS.get(here, set())


@pytest.mark.parametrize("path", named(LIBRARY))
def test_the_library_knows_nothing_above_it(path):
    tops = {name.partition(".")[0] for name in imports(path)}
    assert not tops & {*LAYERS, "main", "tests", "benchmarks", "configs"}


@pytest.mark.parametrize("path", named(sources(*LAYERS)))
def test_the_layers_above_know_only_what_they_may(path):
    tops = {name.partition(".")[0] for name in imports(path)}
    own = path.relative_to(ROOT).parts[0]
    assert not tops & ({*LAYERS, "main", "tests", "benchmarks"} - {own} - LAYERS[own])


@pytest.mark.parametrize("path", named(LIBRARY))
def test_large_packages_are_named_only_where_they_belong(path):
    tops = {name.partition(".")[0] for name in imports(path)}
    wrong = {package for package in tops & set(HEAVY) if place(path) not in HEAVY[package]}
    assert not wrong


@pytest.mark.parametrize("path", named(sources("recognizer", *LAYERS)))
def test_no_print_no_argv_no_exit(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"print", "input", "exit"}, f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            wrong = node.value.id == "sys" and node.attr in {"argv", "exit"}
            assert not wrong, f"line {node.lineno}: sys.{node.attr}"


def test_one_file_spells_the_keys_of_mmaction2():
    keys = {"frame_dir", "img_shape", "original_shape", "keypoint_score"}
    spelt = {
        path.relative_to(ROOT).as_posix()
        for path in sources("recognizer", *LAYERS)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in keys
    }
    # A transform of mmaction2's pipeline reads and writes its keys; nobody else does.
    names = ("transforms", "augmentation", "body_transform", "pose_dataset")
    pipeline = {f"recognizer/action/{name}.py" for name in names}
    assert spelt <= {"recognizer/dataset/mmaction.py"} | pipeline


@pytest.mark.parametrize("path", named(sources(*PARTS)))
def test_files_are_short_and_named_for_what_they_are(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    assert path.stem not in VAGUE_FILES


@pytest.mark.parametrize("path", named(sources("recognizer", *LAYERS)))
def test_functions_are_short_and_classes_named_for_what_they_are(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node):  # what is said about it does not make it long
                text = node.body[0]
                lines -= (text.end_lineno or text.lineno) - text.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name}: {lines} lines"
        if isinstance(node, ast.ClassDef):
            assert not node.name.endswith(VAGUE_CLASSES), node.name


def test_main_is_only_a_table():
    main = ROOT / "main.py"
    if not main.exists():
        pytest.skip("there is no main.py")
    assert len(main.read_text(encoding="utf-8").splitlines()) <= MAX_MAIN_LINES
    tops = {name.partition(".")[0] for name in imports(main)}
    assert not tops & {"numpy", "cv2", "torch"}


def loaded_by(*command: str) -> set[str]:
    """Return the packages that a fresh interpreter has loaded at the end of a command."""
    report = (
        "import atexit, sys\n"
        "atexit.register(lambda: sys.stderr.write('LOADED ' + ' '.join(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", report + "\n".join(command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stderr.partition("LOADED ")[2].split()}


@pytest.mark.parametrize(
    ("module", "may"),
    [
        ("recognizer", set()),
        ("recognizer.types", set()),
        ("recognizer.geometry", set()),
        ("recognizer.config_file", set()),
        ("recognizer.artifacts", set()),
        ("recognizer.doctor", set()),
        ("recognizer.openmmlab", set()),
        ("recognizer.pose.estimator", {"cv2", "onnxruntime"}),
        ("recognizer.action.classifier", {"onnxruntime"}),
        ("recognizer.pipeline", {"cv2", "av", "onnxruntime"}),
        ("annotation.stage1", {"cv2", "av", "onnxruntime"}),
    ],
)
def test_imports_are_light(module, may):
    if not (ROOT / f"{module.replace('.', '/')}.py").exists() and "." in module:
        pytest.skip(f"there is no {module}")
    assert loaded_by(f"import {module}") & LIGHT <= may


def test_importing_the_package_loads_not_even_numpy():
    assert "numpy" not in loaded_by("import recognizer")


def test_list_modes_is_light():
    if not (ROOT / "main.py").exists():
        pytest.skip("there is no main.py")
    loaded = loaded_by("import main", "assert main.main(['--list-modes']) == 0")
    assert not loaded & (LIGHT | {"numpy", "pydantic", "yaml", "rich"})
