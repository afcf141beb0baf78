"""The .pyi files name what the libraries really have: classes, methods and their arguments."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mmaction")
pytest.importorskip("mmpose")

STUBS = ("recognizer.runner.engine", "recognizer.sdpose.mmpose", "recognizer.action.mmaction")


@pytest.mark.parametrize("name", STUBS)
def test_every_stub_is_of_something_real(name):
    module = importlib.import_module(name)
    tree = ast.parse(Path(module.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    wrong = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            wrong += unknown_arguments(node, getattr(module, node.name, None))
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            real = getattr(module, node.name, None)
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("__get"):
                    wrong += unknown_arguments(method, getattr(real, method.name, None))
        elif isinstance(node, ast.AnnAssign) and not hasattr(module, node.target.id):
            wrong.append(node.target.id)
    assert not wrong


def unknown_arguments(stub, real):
    """Return what the stub of a function names and the function does not have."""
    if real is None:
        return [stub.name]
    if not callable(real):
        return []  # a property
    try:
        known = inspect.signature(real).parameters
    except ValueError:  # of a built-in type
        return []
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in known.values()):
        return []
    arguments = [*stub.args.posonlyargs, *stub.args.args, *stub.args.kwonlyargs]
    names = [each.arg for each in arguments if each.arg not in ("self", "cls")]
    return [f"{stub.name}: {each}" for each in names if each not in known]
