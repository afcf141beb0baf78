"""Commands that the pages show: their files exist or are marked as the reader's, and some are run.

A block below ``<!-- runs -->`` has all it needs in the repository; `make docs-check` runs it.
"""

import os
import re
import shlex
import subprocess
import sys

import pytest

from deploy.model_zoo import ALIASES, FILES, PRESETS
from recognizer.command import EXIT_DONE, EXIT_SOME_REFUSED
from tests.test_docs import PAGES, ROOT, SHELL_VARIABLE, fenced, text_of

COMMAND = re.compile(r"\b(?:main|tools/\w+)\.py (?=\S)|^(?:\$ )?recognizer (?=-)")
FILE = re.compile(r"[\w./{},<>\[\]*$:+-]+\.(?:onnx|pth|yaml|csv|py|trt|engine)\b")
# Files of the reader, and those that an earlier command leaves.
READERS = (
    "configs/my.yaml",
    "/data/",
    "/workspace/",
    "../shared/",
    "$PWD/",
    "weights/",
    "work_dirs/",
    "output/",
    "mmpose::",
)
RUNS = re.compile(r"^<!-- runs -->\n```\w*\n(.*?)^```$", re.M | re.S)
MARKED = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, block in enumerate(RUNS.findall(text_of(page)))
]


def lines_of(block):
    """Return a block's lines without comments, continued lines joined and variables filled in."""
    joined = block.replace("\\\n", " ")
    joined = re.sub(r"<[^<>\n]*>", lambda found: found[0].replace(" ", "_"), joined)
    lines = [re.sub(r"(^| )#.*", "", line).strip() for line in joined.splitlines()]
    variables = SHELL_VARIABLE.findall("\n".join(line for line in lines if "main.py" not in line))
    for name, value in variables:
        lines = [re.sub(rf"\${name}\b", value, line) for line in lines]
    return lines


def expanded(path):
    """Return the paths of a shell's pattern with one pair of braces."""
    found = re.fullmatch(r"(.*)\{([^{}]*)\}(.*)", path)
    return [found[1] + one + found[3] for one in found[2].split(",")] if found else [path]


MAKES = re.compile(r"(?:^cp \S+|--out|deploy\.output=) ?(\S+)")


def made_by(block):
    """Return the files that the commands of a block make."""
    return {path for line in lines_of(block) for path in MAKES.findall(line)}


def missing_files(block, before=()):
    """Return the files of a block's commands that are neither here nor marked as the reader's.

    Args:
        block: the commands.
        before: the page's earlier blocks, whose files are there.

    """
    official = text_of(ROOT / "docs" / "quickstart.md").partition("## Weights")[2]
    named = {*re.findall(r"`([\w-]+\.onnx)`", official.partition("\n## ")[0])}
    made, missing = set().union(*map(made_by, before)), []
    for line in lines_of(block):
        made |= set(MAKES.findall(line))
        called = COMMAND.search(line)
        if not called:
            continue
        arguments = line[called.end() :]
        if arguments.count('"') % 2:  # the end of `bash -c "... main.py ..."`
            arguments = arguments.removesuffix('"')
        for word in shlex.split(arguments):
            for path in FILE.findall(word.partition("=")[2] or word):
                here = [*expanded(path), *(f"samples/models/{one}" for one in expanded(path))]
                known = path in named | made or path.startswith(READERS) or "<" in path
                if not known and not any((ROOT / one).is_file() for one in here):
                    missing.append(path)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_of_a_command_exists_or_is_the_readers(page):
    for name in ("", "bash", "sh", "console"):
        blocks = fenced(text_of(page), name)
        for number, block in enumerate(blocks):
            assert not missing_files(block, blocks[:number])


@pytest.mark.parametrize(
    ("block", "missing"),
    [
        ("python main.py --mode doctor --config gone.yaml", ["gone.yaml"]),
        ("cp configs/live.yaml my.yaml\npython main.py --config my.yaml --mode doctor", []),
        ("python main.py --train-config configs/{gone,config}.yaml --mode doctor", []),
        ("python main.py --set a.b=nowhere/x.onnx  # configs/gone.py", ["nowhere/x.onnx"]),
        ("recognizer --mode deploy.export --checkpoint best.pth", ["best.pth"]),
        ("python main.py --mode deploy.export --checkpoint work_dirs/x/<best>.pth", []),
        (
            "C=configs/gone\nrecognizer --mode train.check --train-config $C/a.py",
            ["configs/gone/a.py"],
        ),
    ],
)
def test_a_file_that_is_not_there_is_found(block, missing):
    assert missing_files(block) == missing


def test_names_to_fetch_are_official():
    official = {*PRESETS, *FILES, *ALIASES}
    text = "\n".join(text_of(page) for page in PAGES)
    for names in re.findall(r"--set models\.fetch=(\S+?)[`\s]", text):
        assert set(names.strip("[]").split(",")) <= official, names


def test_some_blocks_are_marked_to_run():
    assert len(MARKED) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("block", MARKED)
def test_a_marked_block_runs(block, tmp_path):
    """With results in a folder of the test; the commands of one block follow each other."""
    lines = [line for line in lines_of(block) if line]
    assert lines
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["python", "main.py"], line
        if "--mode" in words:
            words += ["--set", f"annotation.output_dir={tmp_path}"]
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode in (EXIT_DONE, EXIT_SOME_REFUSED), (
            f"{line}\n{done.stdout}\n{done.stderr}"
        )
