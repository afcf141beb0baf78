"""Check that the pinned lists bring every library that ONNX Runtime's GPU providers link to.

``python -m deploy.gpu_libs`` (``make check-gpu-libs``; minutes, no GPU, 3 GB at a time in the
folder for temporary files) fetches the wheels that requirements/gpu.txt, tensorrt.txt and
training.txt pin, reads the dynamic section of each shared library in them, and looks up every
NEEDED name, the libraries of libraries too. A name comes from a package of the list, the NVIDIA
driver or the system (glibc, zlib, GCC), or it is missing. TensorRT's libraries come from
NVIDIA's own package index: where that is out of reach they are reported as unproven.

Exit codes: 0 all proven, 1 something is missing, 3 the rest is proven and some could not be looked
at.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from recognizer.doctor import read_pins

EXIT_PROVEN, EXIT_MISSING, EXIT_UNPROVEN = 0, 1, 3
_LISTS = Path(__file__).resolve().parents[1] / "requirements"
_LIBRARY = re.compile(r"\.so(\.\d+)*$")
_DRIVER = {"libcuda.so.1", "libnvidia-ml.so.1"}
_SYSTEM = re.compile(
    r"(ld-linux-x86-64|lib(c|m|dl|rt|pthread|util|gcc_s|stdc\+\+|z))\.so\.\d+|linux-vdso\.so\.1"
)
# Loaded at run time, so in no dynamic section: library -> the names that it loads.
_OPENED = {
    "libonnxruntime_providers_cuda.so": ("libcudnn.so.9", "libcufft.so.12", "libnvrtc.so.13"),
    "libonnxruntime_providers_tensorrt.so": ("libnvinfer_plugin.so.10",),
}
_UNREACHED = {"tensorrt-cu13-libs": re.compile(r"lib(nvinfer\w*|nvonnxparser)\.so\.10")}


@dataclass(frozen=True, slots=True)
class Library:
    """A shared library of a wheel: its name for the loader, and the names that it needs."""

    name: str
    package: str
    needs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Installation:
    """Packages to fetch, and the libraries that must load with them."""

    name: str
    requirements: tuple[str, ...]
    roots: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dependency:
    """A library that another one needs, and the package that it comes from."""

    library: str
    needed: str
    source: str


def installations() -> tuple[Installation, ...]:
    """Return the installations to check, from the pinned lists."""
    gpu = [f"{name}=={pin}" for name, pin in read_pins(_LISTS / "gpu.txt").items()]
    tensorrt = read_pins(_LISTS / "tensorrt.txt")
    parts = [f"{name}=={pin}" for name, pin in tensorrt.items() if "tensorrt-cu13-" in name]
    torch = read_pins(_LISTS / "training.txt")["torch"]
    cuda = ("libonnxruntime_providers_cuda.so",)
    return (
        Installation("gpu", tuple(gpu), cuda),
        # A build without CUDA, where one lies beside the index, is another version to pip.
        Installation("train", (*gpu, f"torch=={torch},!={torch}+cpu"), (*cuda, "libtorch_cuda.so")),
        Installation(
            "tensorrt",
            (*gpu, *parts),
            (*cuda, "libonnxruntime_providers_tensorrt.so", "tensorrt.so"),
        ),
    )


# --- wheels ------------------------------------------------------------------------


def fetch(requirement: str, folder: Path, together: Sequence[str] = ()) -> bool:
    """Put the wheel of a requirement into a folder; return whether that worked.

    ``together``: further requirements, resolved with it and with all that they bring.
    """
    options = ["--quiet", "--disable-pip-version-check", "--wheel-dir", str(folder)]
    alone = [] if together else ["--no-deps"]
    command = [sys.executable, "-m", "pip", "wheel", *alone, *options, requirement, *together]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0


def read_wheel(path: Path) -> list[Library]:
    """Return the shared libraries of a wheel; each is unpacked for as long as it is read."""
    package = "-".join(path.name.split("-")[:2])
    libraries = []
    with zipfile.ZipFile(path) as wheel, tempfile.TemporaryDirectory() as scratch:
        for name in wheel.namelist():
            if _LIBRARY.search(name):
                file = Path(wheel.extract(name, scratch))
                libraries.append(_read(file, package))
                file.unlink()
    return libraries


def _read(path: Path, package: str) -> Library:
    with path.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".dynamic")
        tags = list(section.iter_tags()) if isinstance(section, DynamicSection) else []
    needs = tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED")  # type: ignore[attr-defined]
    names = [tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"]  # type: ignore[attr-defined]
    # Without a SONAME, as ONNX Runtime's providers, the loader goes by the file's name.
    return Library(names[0] if names else path.name, package, needs)


# --- dependencies ---------------------------------------------------------------


def look_up(
    roots: Iterable[str], libraries: Iterable[Library], absent: Iterable[str]
) -> list[Dependency]:
    """Return where every library comes from that the roots need, directly or not.

    Args:
        roots: names of libraries; one that is not there is missing itself.
        libraries: all of the installation.
        absent: packages of it that could not be fetched.

    """
    known = {library.name: library for library in libraries}
    missing = set(absent)
    rows, queue, queued = [], list(roots), set(roots)
    rows += [Dependency("(loaded)", root, _source(root, known, missing)) for root in roots]
    while queue:
        library = known.get(queue.pop(0))
        if library is None:
            continue
        for needed in (*library.needs, *_OPENED.get(library.name, ())):
            rows.append(Dependency(library.name, needed, _source(needed, known, missing)))
            if needed not in queued:
                queued.add(needed)
                queue.append(needed)
    return rows


def _source(name: str, known: Mapping[str, Library], missing: set[str]) -> str:
    if name in known:
        return known[name].package
    if name in _DRIVER:
        return "NVIDIA driver"
    if _SYSTEM.fullmatch(name):
        return "system"
    for package in missing:
        if package in _UNREACHED and _UNREACHED[package].fullmatch(name):
            return f"not available here: {package}, from NVIDIA's index"
    return "MISSING"


def verdict(rows: Iterable[Dependency]) -> int:
    """Return the exit code of all rows."""
    sources = [row.source for row in rows]
    if "MISSING" in sources:
        return EXIT_MISSING
    return EXIT_UNPROVEN if any(s.startswith("not available") for s in sources) else EXIT_PROVEN


# --- the command -------------------------------------------------------------------


def check(installation: Installation, folder: Path) -> list[Dependency]:
    """Fetch an installation into an empty folder and look up what its libraries need."""
    whole = [name for name in installation.requirements if not name.startswith("tensorrt")]
    if not fetch(whole[0], folder, whole[1:]):
        raise RuntimeError(f"{installation.name}: pip cannot fetch {', '.join(whole)} together")
    single = [name for name in installation.requirements if name.startswith("tensorrt")]
    absent = [name.partition("==")[0] for name in single if not fetch(name, folder)]
    libraries = [library for path in sorted(folder.glob("*.whl")) for library in read_wheel(path)]
    return look_up(installation.roots, libraries, absent)


def table(name: str, rows: Iterable[Dependency]) -> str:
    """Return the rows as text, each once, without those of the system."""
    lines = [f"== {name}"]
    shown = sorted({row for row in rows if row.source != "system"}, key=lambda row: row.library)
    width = max((len(row.library) for row in shown), default=0)
    lines += [f"{row.library:{width}}  {row.needed:38}  {row.source}" for row in shown]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Check every installation and show the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    every = {one.name: one for one in installations()}
    parser.add_argument("--image", choices=every, action="append", help="default: all")
    codes = set()
    for name in parser.parse_args().image or every:
        with tempfile.TemporaryDirectory() as scratch:
            rows = check(every[name], Path(scratch))
        codes.add(verdict(rows))
        sys.stdout.write(table(name, rows))
        sys.stdout.flush()
    code = EXIT_MISSING if EXIT_MISSING in codes else max(codes)
    texts = {
        EXIT_PROVEN: "every library is there",
        EXIT_MISSING: "a library is missing",
        EXIT_UNPROVEN: "nothing is missing; some could not be looked at here",
    }
    sys.stdout.write(f"{texts[code]}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
