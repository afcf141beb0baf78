"""Every name of TensorRT that the code uses exists in NVIDIA's bindings, oldest to newest.

``tensorrt_api.json`` holds what ``dir()`` lists of the classes in question in published wheels of
NVIDIA's bindings: the first release of TensorRT 10, the one that requirements/tensorrt.txt
installs, the last of TensorRT 10 and one of 11. Where the package itself is installed, it is asked
as well.
"""

import ast
import importlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [ROOT / "recognizer/backends/tensorrt_session.py", ROOT / "deploy/tensorrt.py"]
KNOWN = json.loads(Path(__file__).with_name("tensorrt_api.json").read_text(encoding="utf-8"))
# What the code calls the objects that TensorRT gives it -> their class.
OBJECTS = {
    "_runtime": "Runtime",
    "_engine": "ICudaEngine",
    "_context": "IExecutionContext",
    "builder": "Builder",
    "parser": "OnnxParser",
    "error": "ParserError",
    "settings": "IBuilderConfig",
    "shapes": "IOptimizationProfile",
    "cache": "ITimingCache",
}
# The same names for other things, in functions that hold no object of TensorRT's.
ELSEWHERE = {"build", "read_onnx", "_place_outputs"}
OWN = {"__version__"}  # of the package, not of a class


def chain(node):
    """Return ``['trt', 'ILogger', 'Severity']`` for the expression of that spelling."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return [node.id, *reversed(names)] if isinstance(node, ast.Name) else []


def used():
    """Return the names used: class -> its members, the empty text for the class itself."""
    found = {}
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            for function in [node, *getattr(node, "body", [])]:
                if getattr(function, "name", "") in ELSEWHERE or isinstance(function, ast.ClassDef):
                    continue
                for inner in ast.walk(function):
                    add(found, chain(inner))
            for base in getattr(node, "bases", []):
                add(found, chain(base))
    return found


def add(found, names):
    if names[:1] == ["self"]:
        names = names[1:]
    if len(names) < 2:
        return
    if names[0] == "trt" and names[1] not in OWN:
        nested = ".".join(names[1:3])
        if nested in next(iter(KNOWN.values())):
            found.setdefault(nested, set()).update(names[3:4])
        else:
            found.setdefault(names[1], set()).update(names[2:3])
    elif names[0] in OBJECTS:
        found.setdefault(OBJECTS[names[0]], set()).add(names[1])


def test_the_names_are_found_at_all():
    found = used()
    assert set(OBJECTS.values()) <= found.keys()
    assert {"execute_async_v3", "set_input_shape", "infer_shapes"} <= found["IExecutionContext"]
    assert found["NetworkDefinitionCreationFlag"] == {"STRONGLY_TYPED"}
    assert "desc" in found["ParserError"]
    assert "IOutputAllocator" in found


@pytest.mark.parametrize("version", KNOWN)
def test_they_are_in_the_published_bindings(version):
    known = KNOWN[version]
    missing = {
        f"{name}.{member}"
        for name, members in used().items()
        for member in members or {""}
        if name not in known or (member not in {"", "__init__"} and member not in known[name])
    }
    assert not missing


@pytest.mark.parametrize("version", KNOWN)
def test_what_tensorrt_calls_is_there(version):
    classes = [
        node
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and node.bases
    ]
    assert len(classes) == 3  # log, progress of a build, memory of an output
    for node in classes:
        base = chain(node.bases[0])[-1]
        called = {name for name in KNOWN[version][base] if name.islower()}
        assert called <= {item.name for item in node.body if isinstance(item, ast.FunctionDef)}


def test_the_version_that_is_installed_is_among_them():
    text = (ROOT / "requirements/tensorrt.txt").read_text(encoding="utf-8")
    assert re.search(r"^tensorrt-cu13==(\S+)", text, re.MULTILINE)[1] in KNOWN


def test_they_are_in_the_package_here():
    try:
        trt = importlib.import_module("tensorrt")
    except ImportError as error:
        pytest.skip(f"TensorRT cannot be imported here: {error}")
    for name, members in used().items():
        where = trt
        for part in name.split("."):
            where = getattr(where, part)
        assert all(hasattr(where, member) for member in members), name
