"""README and docs/: links and anchors resolve, and what they name - modes, keys, files - exists."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import main
import recognizer as rz
from recognizer.config.file import known_keys, load_config
from recognizer.video.reader import VideoReader
from recognizer.video.writer import VideoWriter
from tests import networks
from tests.analysis.classifiers import place_classifier
from tests.annotation import clips

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "samples").rglob("*.md")),
]
MAX_README_LINES = 150
KEYS = set(known_keys())
SECTIONS = {key for key in KEYS if "." not in key}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
FOLDERS = (
    "recognizer",
    "annotation",
    "training",
    "analysis",
    "deploy",
    "configs",
    "benchmarks",
    "tools",
    "samples",
    "docs",
    "notebooks",
    "tests",
    "requirements",
)
IN_REPOSITORY = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w./-]*\w")
SHELL_VARIABLE = re.compile(r"\b([A-Z])=(\S+)")


def named(pages):
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in pages]


def text_of(page):
    return page.read_text(encoding="utf-8")


def fenced(text, language=""):
    """Return the code blocks of a language."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [block for name, block in blocks if name == language]


def prose(text):
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def code_spans(text):
    """Return what stands between single backticks outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def anchors(text):
    """Return the anchors that GitHub makes of the headings: lower case, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(text):
    """Return the relative links of a page as path and anchor, either of which may be empty."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(text))
    relative = [target for target in targets if not re.match(r"[a-z]+:", target)]
    return [(target.partition("#")[0], target.partition("#")[2]) for target in relative]


def commands(text):
    """Return the argument lists of every main.py in the code blocks, variables filled in."""
    found = []
    for block in [block for name in ("", "bash", "sh", "console") for block in fenced(text, name)]:
        lines = block.replace("\\\n", " ").splitlines()
        variables = dict(
            SHELL_VARIABLE.findall("\n".join(li for li in lines if "main.py" not in li))
        )
        for line in lines:
            called = re.search(r"\bmain\.py (?=-)|^(?:\$ )?recognizer (?=-)", line)
            if not called or line.startswith("#"):
                continue
            arguments = line[called.end() :]
            if arguments.count('"') % 2:  # the end of `bash -c "... main.py ..."`
                arguments = arguments.removesuffix('"')
            for name, value in variables.items():
                arguments = re.sub(rf"\${name}\b", value, arguments)
            arguments = re.sub(r"<([^<>]*)>", lambda m: m[1].replace(" ", "_"), arguments)
            words = shlex.split(arguments, comments=True)
            found.append([word for word in words if word != "..."])
    return found


ALL_COMMANDS = [
    pytest.param(words, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, words in enumerate(commands(text_of(page)))
]


def test_the_readme_fits_a_screen_or_three():
    assert len(text_of(README).splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("page", named(PAGES))
def test_every_relative_link_and_anchor_resolves(page):
    wrong = []
    for path, anchor in links(text_of(page)):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or not target.is_relative_to(ROOT):
            wrong.append(path)
        elif anchor and anchor not in anchors(text_of(target)):
            wrong.append(f"{path}#{anchor}")
    assert not wrong


def test_there_are_links_to_check():
    assert sum(len(links(text_of(page))) for page in PAGES) > 40
    assert any(anchor for page in PAGES for _, anchor in links(text_of(page)))


def test_every_page_can_be_reached_from_the_readme():
    reached, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        near = {(page.parent / path).resolve() for path, _ in links(text_of(page)) if path}
        waiting += [p for p in near if p.suffix == ".md" and p.is_file() and p not in reached]
    assert set(PAGES) <= reached


def test_the_modes_table_has_every_mode_once():
    rows = re.findall(r"^\| (`[^|]+`) \| .+ \|$", text_of(README), re.M)
    modes = [mode for row in rows for mode in re.findall(r"`([a-z0-9._]+)`", row)]
    assert sorted(modes) == sorted(main.MODES)


@pytest.mark.parametrize("words", ALL_COMMANDS)
def test_every_command_parses_and_its_settings_load(words):
    arguments = main._arguments(words)
    load_config(ROOT / "configs" / "config.yaml", arguments.overrides)


def test_there_are_commands_of_most_modes():
    every = [words for (words,) in (command.values for command in ALL_COMMANDS)]
    modes = {words[words.index("--mode") + 1] for words in every if "--mode" in words}
    assert modes <= set(main.MODES)
    assert len(modes) >= 17


@pytest.mark.parametrize("page", named(PAGES))
def test_every_key_that_is_named_exists(page):
    unknown = []
    for span in code_spans(text_of(page)):
        for key in re.findall(r"^(?:--set )?([a-z0-9_]+(?:\.[a-z0-9_]+)+)(?=$|[=:])", span):
            ours = key.partition(".")[0] in SECTIONS and not key.endswith((".pkl", ".json"))
            if ours and key not in KEYS | set(main.MODES):
                unknown.append(key)
    assert not unknown


@pytest.mark.parametrize("page", named(PAGES))
def test_every_file_of_the_repository_that_is_named_exists(page):
    text = text_of(page)
    spans = [*code_spans(text), *"\n".join(fenced(text)).split()]
    wrong = [
        path
        for span in spans
        for path in IN_REPOSITORY.findall(span)
        if span.startswith(path) and "$" not in span and not exists(span, path)
    ]
    assert not wrong


def exists(span, path):
    """Tell whether a named path is there; of ``{a,b}`` patterns the folder has to be."""
    if path == "configs/my.yaml":  # the reader's copy of configs/live.yaml
        return True
    pattern = set("{}*<>") & set(span)
    return (ROOT / path).parent.is_dir() if pattern else (ROOT / path).exists()


@pytest.mark.parametrize("page", named(PAGES))
def test_every_benchmark_and_make_target_that_is_named_exists(page):
    text = text_of(page)
    for module in re.findall(r"python -m ((?:benchmarks|samples|tools)(?:\.\w+)*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module
    code = [*code_spans(text), *"\n".join(fenced(text)).splitlines()]
    for line in code:
        for target in re.findall(r"^(?:sudo )?make ([a-z-]+)", line):
            assert target in TARGETS, line


@pytest.mark.parametrize("page", named(PAGES))
def test_every_flag_of_a_benchmark_that_is_named_is_one(page):
    for module, rest in re.findall(r"python -m (benchmarks\.[\w.]+)([^`\n#]*)", text_of(page)):
        path = ROOT / (module.replace(".", "/") + ".py")
        shared = [ROOT / "benchmarks" / "_command.py", ROOT / "benchmarks" / "gpu" / "_part.py"]
        sources = [*path.parent.glob(f"{path.stem}*.py"), *shared]
        source = "".join(text_of(one) for one in sources)
        for flag in re.findall(r"--[a-z][a-z0-9-]*", rest):
            assert f'"{flag}"' in source, f"{module} {flag}"


def test_python_examples_are_python():
    blocks = [block for page in PAGES for block in fenced(text_of(page), "python")]
    assert blocks
    for block in blocks:
        compile(block, "example", "exec")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Enter a folder with a video of a dot that moves down and networks that find it."""
    networks.rtmo(tmp_path / "rtmo-s.onnx", input_wh=clips.SIZE_WH)
    place_classifier(tmp_path / "fight.onnx", slope=-0.5)  # 1 at the left edge, where the dot is
    width, height = 2 * clips.SIZE_WH[0], 2 * clips.SIZE_WH[1]
    with VideoWriter(tmp_path / "camera.mp4", (width, height), 20.0, crf=0) as writer:
        for t in range(60):
            image = np.zeros((height, width, 3), np.uint8)
            image[20 + t : 31 + t, 30:41, 0] = 255
            writer.write(image, t / 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("place")
def test_the_python_lines_of_the_readme_run(capsys):
    """The dot is one person, who keeps one id to the last frame; what is printed are events."""
    (block,) = fenced(text_of(README), "python")
    values = {}
    exec(block, values)
    assert values["people"].track_ids.tolist() == [1]
    assert abs(values["people"].keypoints[0, 0, 1] - (25 + 59)) <= 12
    printed = capsys.readouterr().out
    assert re.fullmatch(r"Fight 0\.00-3\.00 s, probability 0\.\d\d, people 1\n", printed)


def test_the_python_page_runs(place, capsys):
    page = ROOT / "docs" / "python.md"
    find, stages, drawing = fenced(text_of(page), "python")
    exec(find.replace('"falldown.onnx", ', ""), {})
    assert capsys.readouterr().out == "Fight 0.0 3.0 [1]\n"
    exec(stages, {})
    assert len(capsys.readouterr().out.splitlines()) == 5  # windows of a second, every half
    assert len(rz.load_poses("camera.npz")) == 60  # the whole video
    exec(drawing, {})
    with VideoReader(place / "overlay.mp4") as frames:
        assert sum(1 for _ in frames) == 60
    listed = set(re.findall(r"`(\w+)`", text_of(page).partition("## Names")[2]))
    assert listed == set(rz.__all__) - {"__version__"}


def test_the_architecture_page_names_every_part_and_only_files_that_exist():
    page = text_of(ROOT / "docs" / "architecture.md")
    parts = {
        path.name for path in (ROOT / "recognizer").iterdir() if (path / "__init__.py").is_file()
    }
    parts |= {path.name for path in (ROOT / "recognizer").glob("[!_]*.py")}
    quoted = " ".join(re.findall(r"`[^`\n]+`|^recognizer/\w+", page, re.M))
    assert not {part for part in parts if not re.search(rf"\b{re.escape(part)}", quoted)}
    files = re.findall(r"`((?:recognizer|configs|tests)/[\w/]+\.\w+)`", page)
    assert files
    assert not [name for name in files if not (ROOT / name).is_file()]
