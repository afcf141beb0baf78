"""The notebooks run from the repository alone, and what is committed is what they give."""

import itertools
import re
import subprocess
import sys

import pytest

from tools import notebooks
from tools.notebooks import NOTEBOOKS, ROOT, absolute_paths, execute, stripped

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
PATHS = {path.stem: path for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
TRAIN = {"compare_backends", "poses_to_classifier"}
MAX_BYTES = 300_000
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """Return what a cell shows: streams by name, data by its types."""
    return [one.get("name") or sorted(one.get("data", {})) for one in cell.outputs]


def text_of(cell):
    return "".join(one.text for one in cell.outputs if one.output_type == "stream")


def code_cell(source, *outputs):
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), execution_count=1)


def stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


@pytest.mark.parametrize("name", PATHS)
def test_a_committed_notebook_is_small_and_was_run_in_order_without_error(name):
    notebook, size = read(PATHS[name]), PATHS[name].stat().st_size
    assert size < MAX_BYTES
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    assert absolute_paths(notebook) == []
    assert nbformat.writes(stripped(read(PATHS[name]))) == nbformat.writes(notebook)


def test_from_poses_to_a_classifier_there_are_ten_cells():
    assert len(code_cells(read(PATHS["poses_to_classifier"]))) == 10


def test_the_notebooks_follow_the_rules_of_the_code():
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, "--no-cache", "notebooks"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", list(PATHS))
def test_a_notebook_runs_and_gives_what_is_committed(name, tmp_path):
    """Trainings and times differ from run to run: of these only the kinds of outputs are equal."""
    committed, run = code_cells(read(PATHS[name])), execute(PATHS[name], tmp_path)
    assert [kinds(cell) for cell in code_cells(run)] == [kinds(cell) for cell in committed]
    if name in TRAIN:
        return
    for cell, before in zip(code_cells(run), committed, strict=True):
        text, expected = text_of(cell), text_of(before)
        assert NUMBER.sub("#", text) == NUMBER.sub("#", expected)
        numbers, values = (list(map(float, NUMBER.findall(one))) for one in (text, expected))
        assert numbers == pytest.approx(values, abs=0.02)


def test_texts_in_pieces_are_joined_and_metadata_of_the_machine_are_removed():
    cell = code_cell("1", stream("a"), stream("b"), stream("c", "stderr"), stream("d"))
    cell.metadata["execution"] = {"iopub.status.busy": "2020-01-01T00:00:00"}
    notebook = nbformat.v4.new_notebook(cells=[cell])
    notebook.metadata["language_info"] = {"name": "python", "version": "3.11.4"}
    (found,) = stripped(notebook).cells
    pieces = [(one.name, one.text) for one in found.outputs]
    assert pieces == [("stdout", "ab"), ("stderr", "c"), ("stdout", "d")]
    assert found.metadata == {}
    assert notebook.metadata["language_info"] == {"name": "python"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("read /home/kim/a.npz, done", ["/home/kim/a.npz"]),
        ("'/tmp/x y'", ["/tmp/x"]),
        ("output/tmp/a, 3 /data https://a.example/home/b", []),
    ],
)
def test_absolute_paths_in_outputs_are_found(text, expected):
    data = {"text/plain": text, "image/png": "/home/x"}
    shown = nbformat.v4.new_output("display_data", data=data)
    for output in (stream(text), shown):
        notebook = nbformat.v4.new_notebook(cells=[code_cell("1", output)])
        assert absolute_paths(notebook) == expected


def test_a_notebook_that_fails_or_tells_a_path_is_not_written(tmp_path, monkeypatch):
    from nbclient.exceptions import CellExecutionError

    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    broken, telling = tmp_path / "broken.ipynb", tmp_path / "telling.ipynb"
    for path, source in ((broken, "1 / 0"), (telling, "print('/home/' + 'kim')")):
        cells = [nbformat.v4.new_code_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    before = {path: path.read_bytes() for path in (broken, telling)}
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        notebooks.main(["broken"])
    with pytest.raises(ValueError, match=r"telling\.ipynb: expected .* got \['/home/kim'\]"):
        notebooks.main(["telling"])
    assert {path: path.read_bytes() for path in (broken, telling)} == before


def test_an_unknown_notebook_is_refused(capsys):
    with pytest.raises(SystemExit):
        notebooks.main(["no_such"])
    assert "expected names of compare_backends" in capsys.readouterr().err


def test_every_notebook_is_linked_from_the_python_page():
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert sorted(set(re.findall(r"\(\.\./notebooks/(\w+)\.ipynb\)", page))) == sorted(PATHS)


def test_paths_that_notebooks_name_exist():
    sources = itertools.chain.from_iterable(
        [cell.source for cell in read(path).cells] for path in PATHS.values()
    )
    named = {link for source in sources for link in re.findall(r"\]\((\.\./[^)#]+)\)", source)}
    assert named
    assert [link for link in named if not (NOTEBOOKS / link).exists()] == []
