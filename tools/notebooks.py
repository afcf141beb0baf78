"""Run the notebooks and write them with their outputs, without what changes from run to run.

    python -m tools.notebooks                 # all of notebooks/
    python -m tools.notebooks explain_alarm   # this one

Each runs in a folder that looks like the repository, so that nothing is left in it. Of a run that
fails nothing is written. Needs nbclient and ipykernel (requirements/dev.txt).
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
# What a notebook may use; without output/, work_dirs/ and the like.
_VISIBLE = ("annotation", "configs", "deploy", "main.py", "recognizer", "samples")
_TIMEOUT_S = 900  # of a cell, on a machine that does other work as well
_THREADS = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
_ABSOLUTE = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|work|usr|opt|var|mnt|data|Users)/[^\s'\",)]*"
)


def execute(path: Path, folder: Path) -> "NotebookNode":
    """Return a notebook with the outputs of running it, as ``stripped`` leaves it.

    Args:
        path: the notebook.
        folder: an empty one; links to the repository's parts and what the notebook writes go there.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails; the message has its traceback.
        nbclient.exceptions.CellTimeoutError: a cell takes longer than 15 min.

    """
    import nbformat
    from nbclient import NotebookClient

    for name in _VISIBLE:
        (folder / name).symlink_to(ROOT / name)
    start = folder / NOTEBOOKS.name
    start.mkdir()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(start)}},
        record_timing=False,
    )
    client.execute(env={**os.environ, **_THREADS})
    return stripped(notebook)


def stripped(notebook: "NotebookNode") -> "NotebookNode":
    """Return a notebook without metadata that differs between machines and runs.

    Texts of streams that came in several pieces are joined: how they are cut depends on time.
    """
    language = {"name": "python"}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = type(notebook.metadata)(kernelspec=kernel, language_info=language)
    for cell in notebook.cells:
        cell.metadata = type(cell.metadata)()
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
            for output in cell.outputs:
                if "metadata" in output:
                    output.metadata = type(cell.metadata)()
    return notebook


def absolute_paths(notebook: "NotebookNode") -> list[str]:
    """Return paths of a machine in a notebook's outputs."""
    texts = (text for cell in notebook.cells for text in _texts(cell.get("outputs", ())))
    return [found for text in texts for found in _ABSOLUTE.findall(text)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run notebooks and write them; return the exit code."""
    names = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    parser = argparse.ArgumentParser(
        "python -m tools.notebooks", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    chosen = parser.parse_args(argv).names or names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"expected names of {', '.join(names)}, got {', '.join(unknown)}")
    for name in chosen:
        sys.stderr.write(f"notebooks/{name}.ipynb\n")
        _write(NOTEBOOKS / f"{name}.ipynb")
    return 0


def _write(path: Path) -> None:
    import nbformat

    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(path, Path(folder))
    if found := absolute_paths(notebook):
        raise ValueError(f"{path.name}: expected outputs without absolute paths, got {found}")
    nbformat.write(notebook, path)


def _joined(outputs: Sequence["NotebookNode"]) -> list["NotebookNode"]:
    joined: list[NotebookNode] = []
    for output in outputs:
        if joined and _stream(joined[-1]) == _stream(output) != "":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _stream(output: "NotebookNode") -> str:
    """Return stdout or stderr; "" for what is no text of a stream."""
    return str(output.name) if output.output_type == "stream" else ""


def _texts(outputs: Sequence["NotebookNode"]) -> list[str]:
    texts = []
    for output in outputs:
        texts += ["".join(output.get("text", "")), *output.get("traceback", ())]
        texts += ["".join(v) for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return texts


if __name__ == "__main__":
    sys.exit(main())
