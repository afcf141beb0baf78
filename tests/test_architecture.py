"""Architecture rules: who imports whom, how long a file is, what stays light."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.loaded import loaded_by

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    *("recognizer", "annotation", "deploy", "tools", "benchmarks", "samples", "tests", "configs"),
)
MAX_LINES, MAX_FUNCTION_LINES, MAX_MAIN_LINES = 400, 50, 140

# What each module and folder of recognizer/ may import from recognizer/: no circles. Every part
# stands below those that import it.
MAY_IMPORT: dict[str, set[str]] = {
    # values and settings
    "installation": set(),
    "names": set(),
    "skeleton": set(),
    "checks": set(),
    "arrays": set(),
    "imagenet": set(),
    "types": {"arrays", "skeleton"},
    "geometry": {"skeleton", "types"},
    "sequences": {"checks", "types"},
    "movement": {"types"},
    "config": {"imagenet", "installation", "names"},
    "signals": set(),
    "command": {"config", "installation"},
    "terminal": {"command", "installation", "names", "signals"},
    "model_files": {"config", "installation"},
    "storage": {"arrays", "config", "installation", "names", "skeleton", "types"},
    "openmmlab": {"installation"},
    "text": {"names"},
    "draw": {"skeleton", "text", "checks", "types"},
    # frames -> poses -> tracks -> windows -> events
    "video": {"checks", "types"},
    "runner": {"installation", "openmmlab", "storage"},
    "backends": {"config", "installation", "openmmlab", "runner", "skeleton", "storage"},
    "pose": {
        *("backends", "config", "geometry", "imagenet", "movement", "skeleton", "checks", "types"),
    },
    "tracking": {"config", "geometry", "sequences", "skeleton", "checks", "types"},
    "scoring": {"config", "skeleton", "types"},
    "dataset": {
        *("checks", "config", "names", "scoring", "sequences", "skeleton", "storage", "types"),
    },
    "action": {
        *("backends", "config", "dataset", "model_files", "openmmlab", "runner", "scoring"),
        *("sequences", "skeleton", "storage", "checks", "types"),
    },
    "sdpose": {"geometry", "names", "openmmlab", "runner", "skeleton", "storage"},
    "models": {
        *("action", "backends", "config", "installation", "model_files", "movement", "openmmlab"),
        *("pose", "checks", "types", "video"),
    },
    "files": {"dataset", "sequences", "storage", "checks", "types"},
    "pipeline": {
        *("action", "config", "dataset", "installation", "models", "pose", "sequences"),
        *("tracking", "checks", "types", "video"),
    },
    # runs over many videos, trainings, reports
    "doctor_backends": {"config", "installation"},
    "doctor_classifiers": {"action", "backends", "config", "doctor_backends", "model_files"},
    "doctor": {
        *("config", "doctor_backends", "doctor_classifiers", "installation", "model_files"),
    },
    "runs": {
        *("action", "backends", "config", "installation", "model_files", "names", "openmmlab"),
        *("pose", "scoring", "skeleton", "storage", "text", "tracking", "checks", "types", "video"),
    },
    "training": {
        *("action", "command", "config", "dataset", "draw", "installation", "names", "runner"),
        *("runs", "sdpose", "sequences", "storage", "text", "types", "video"),
    },
    "analysis": {
        *("action", "backends", "command", "config", "dataset", "draw", "geometry"),
        *(
            "installation",
            "names",
            "runs",
            "scoring",
            "storage",
            "text",
            "types",
            "video",
        ),
    },
    "live": {
        *("action", "backends", "checks", "command", "config", "draw", "geometry"),
        *("installation", "models", "model_files", "movement", "pipeline", "pose", "runs"),
        *(
            "scoring",
            "sequences",
            "signals",
            "skeleton",
            "storage",
            "tracking",
            "types",
            "video",
            "analysis",
        ),
    },
    "__main__": {"installation"},
}
# What stands above recognizer/.
ABOVE = {"annotation", "deploy", "main", "tests", "benchmarks", "configs", "samples", "tools"}
PROGRAM = ("annotation", "deploy")  # neither imports the other

# A large package -> the only parts of recognizer/ that may name it.
HEAVY = {
    "onnxruntime": {"backends"},
    "torch": {"backends", "runner", "action", "sdpose", "openmmlab", "training"},
    "tensorrt": {"backends"},
    "av": {"video", "live"},
    "mmengine": {"runner", "action", "sdpose", "openmmlab", "training"},
    "mmcv": {"action"},
    "mmpose": {"sdpose", "openmmlab"},
    "mmaction": {"action"},
    "matplotlib": {"runs", "training"},
    "rich": {"runs"},
    "ray": {"runs"},
    "paho": {"live"},
    "starlette": {"live"},
    "uvicorn": {"live"},
    "jinja2": {"live"},
    "argon2": {"live"},
    "prometheus_client": {"live"},
    "obstore": {"storage"},
    "argparse": set(),
}
VAGUE_FILES = {"utils", "util", "helpers", "helper", "common", "misc", "base", "core", "manager"}
VAGUE_CLASSES = ("Manager", "Factory", "Processor", "Helper", "Util", "Utils")
# Words that say nothing of what a value is; the field has terms for it.
VAGUE_WORDS = {
    *("said", "told", "tell", "hear", "heard", "wanted", "nobody", "somebody"),
    *("mistake", "mistakes", "facts", "judge", "trust"),
}
# Names that keys, files and packages hold -> where they may be given to a value.
ALLOWED_NAMES = {
    "facts": ("recognizer/types.py", "recognizer/video/", "recognizer/runner/hooks.py"),
    "trust_model_path": ("recognizer/config/",),
    "trust_env": ("deploy/download.py", "recognizer/live/sinks/http.py"),
}
NOT_AT_IMPORT = {
    *("torch", "mmengine", "mmcv", "mmpose", "mmaction", "onnxruntime", "matplotlib", "sklearn"),
    *("cv2", "av", "ray", "obstore"),
}


@dataclass(frozen=True)
class Source:
    """A file of ours and its syntax tree, parsed once for all rules."""

    path: Path
    tree: ast.Module

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def part(self) -> str:
        """Return the module or folder below recognizer/ that the file belongs to."""
        return self.path.relative_to(ROOT / "recognizer").parts[0].removesuffix(".py")

    def imports(self) -> Iterator[str]:
        """Yield the full name of everything the file imports, inside functions too."""
        package = self.path.relative_to(ROOT).parent.parts
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else ()
                module = ".".join([*above, *([node.module] if node.module else [])])
                yield from (f"{module}.{alias.name}" for alias in node.names)

    def packages(self) -> set[str]:
        return {name.partition(".")[0] for name in self.imports()}


@cache
def sources(*parts: str) -> tuple[Source, ...]:
    paths = (path for part in parts for path in sorted((ROOT / part).rglob("*.py")))
    kept = (path for path in paths if "__pycache__" not in path.parts)
    return tuple(Source(path, ast.parse(path.read_text(encoding="utf-8"))) for path in kept)


def library() -> tuple[Source, ...]:
    return sources("recognizer")


def test_there_is_something_to_check():
    assert len(library()) > 100


def test_every_part_of_the_library_has_a_place_in_the_order():
    parts = {source.part for source in library()} - {"__init__"}
    assert parts == set(MAY_IMPORT)
    done: set[str] = set()
    for part, below in MAY_IMPORT.items():
        assert below <= done, f"{part} imports {below - done}, which stand at or above it"
        done.add(part)


def test_the_library_imports_in_one_direction():
    wrong = []
    for source in library():
        taken = {name.split(".")[1] for name in source.imports() if name.startswith("recognizer.")}
        taken -= {"__version__", source.part}
        # __init__ is the public API: names of every part, imported when they are used.
        allowed = set(MAY_IMPORT) if source.part == "__init__" else MAY_IMPORT[source.part]
        wrong += [f"{source.name} imports recognizer.{part}" for part in taken - allowed]
    assert not wrong


def test_the_library_knows_nothing_above_it():
    above = {source.name: source.packages() & ABOVE for source in library()}
    assert not {name: found for name, found in above.items() if found}


def test_the_programs_above_the_library_do_not_know_each_other():
    forbidden = {
        source.name: source.packages() & (ABOVE - {part})
        for part in PROGRAM
        for source in sources(part)
    }
    assert not {name: found for name, found in forbidden.items() if found}


def test_samples_do_not_know_the_benchmarks():
    found = [source.name for source in sources("samples") if "benchmarks" in source.packages()]
    assert found == []


def test_large_packages_are_named_only_where_they_belong():
    wrong = [
        f"{source.name} imports {package}"
        for source in library()
        for package in source.packages() & set(HEAVY)
        if source.part not in HEAVY[package]
    ]
    assert not wrong


def test_no_print_no_argv_no_exit():
    wrong = []
    for source in sources("recognizer", *PROGRAM):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found = {node.func.id} & {"print", "input", "exit"}
                wrong += [f"{source.name}:{node.lineno} {name}" for name in found]
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                found = {f"{node.value.id}.{node.attr}"} & {"sys.argv", "sys.exit"}
                wrong += [f"{source.name}:{node.lineno} {name}" for name in found]
    assert not wrong


def test_one_file_spells_the_keys_of_mmaction2():
    keys = {"frame_dir", "img_shape", "original_shape", "keypoint_score"}
    spelt = {
        source.name
        for source in sources("recognizer", *PROGRAM)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in keys
    }
    # A transform of mmaction2's pipeline reads and writes its keys; no other file does.
    names = ("transforms", "augmentation", "body_transform", "pose_dataset")
    pipeline = {f"recognizer/action/{name}.py" for name in names}
    assert spelt <= {"recognizer/dataset/mmaction.py"} | pipeline


def test_files_are_short_and_named_for_what_they_are():
    lengths = {
        s.name: len(s.path.read_text(encoding="utf-8").splitlines()) for s in sources(*PARTS)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_LINES}
    assert not [s.name for s in sources(*PARTS) if s.path.stem in VAGUE_FILES]


def test_functions_are_short_and_classes_named_for_what_they_are():
    wrong = []
    for source in sources("recognizer", *PROGRAM):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if ast.get_docstring(node):  # a docstring does not make it long
                    text = node.body[0]
                    lines -= (text.end_lineno or text.lineno) - text.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    wrong.append(f"{source.name}:{node.lineno} {node.name}: {lines} lines")
            if isinstance(node, ast.ClassDef) and node.name.endswith(VAGUE_CLASSES):
                wrong.append(f"{source.name}:{node.lineno} {node.name}")
    assert not wrong


def test_names_are_the_fields_terms():
    wrong = []
    for source in sources("recognizer", *PROGRAM, "tools", "benchmarks", "samples", "tests"):
        for node in ast.walk(source.tree):
            name = _bound(node)
            allowed = source.name.startswith(ALLOWED_NAMES.get(name, ()))
            if VAGUE_WORDS & _words(name) and not allowed:
                wrong.append(f"{source.name}:{getattr(node, 'lineno', 0)} {name}")
    assert not wrong


def _bound(node: ast.AST) -> str:
    """Return the name that ``node`` gives to a value; "" for none and for a test's sentence."""
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.ClassDef(name=name):
            return name
        case ast.Attribute(attr=name, ctx=ast.Store()):
            return name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return "" if name.startswith("test_") else name
    return ""


def _words(name: str) -> set[str]:
    """Return the words of a snake_case or CamelCase name, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


@pytest.mark.parametrize("name", ["wanted", "WANTED", "WantedFrames", "_nothing_told_yet"])
def test_a_vague_word_is_found_in_every_spelling(name):
    assert VAGUE_WORDS & _words(name)


def test_main_is_only_a_table():
    main = ROOT / "main.py"
    assert len(main.read_text(encoding="utf-8").splitlines()) <= MAX_MAIN_LINES
    tree = ast.parse(main.read_text(encoding="utf-8"))
    assert not Source(main, tree).packages() & {"numpy", "cv2", "torch"}


@pytest.mark.parametrize(
    ("module", "may"),
    [
        ("recognizer", set()),
        ("recognizer.types", set()),
        ("recognizer.geometry", set()),
        ("recognizer.config.file", set()),
        ("recognizer.storage.artifacts", set()),
        ("recognizer.doctor", set()),
        ("recognizer.openmmlab", set()),
        ("recognizer.pose.estimator", {"cv2", "onnxruntime"}),
        ("recognizer.action.classifier", {"onnxruntime"}),
        ("recognizer.pipeline", {"cv2", "av", "onnxruntime"}),
        ("recognizer.runs.stage1", {"cv2", "av", "onnxruntime"}),
    ],
)
def test_imports_are_light(module, may):
    assert loaded_by(f"import {module}") & NOT_AT_IMPORT <= may


def test_importing_the_package_loads_not_even_numpy():
    assert "numpy" not in loaded_by("import recognizer")


def test_list_modes_is_light():
    loaded = loaded_by("import main", "assert main.main(['--list-modes']) == 0")
    assert not loaded & (NOT_AT_IMPORT | {"numpy", "pydantic", "yaml", "rich"})
