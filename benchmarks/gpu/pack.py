"""Gather into .gpu what travels to the GPU's machine: packages and data, below 60 MiB in all.

    python -m benchmarks.gpu.pack [--assets ../shared/assets] [--target .gpu]

Needs a network (pip fetches wheels). The machine is one with Python 3.12 and torch but without
mmengine, mmpose and their like; ``benchmarks.gpu.run`` unpacks them there by itself. The data come
from the assets' folder; what a part needs beside this its own ``<part>_data`` gathers.
"""

import argparse
import importlib
import importlib.util
import io
import json
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu._part import PACK, ROOT
from benchmarks.gpu._site import PYTHON

MIB = 2**20
LIMIT_MIB = 60.0
JPEG_QUALITY = 85
CACHE = ROOT / "output" / "gpu_wheels"
ASSETS = ROOT.parent / "shared" / "assets"
VIDEOS = ("street_14_people.mp4", "street_5_frames.mp4")
SPLITS = ("train2017", "val2017")
REQUIRED_FILES = (
    *(f"coco/annotations/person_keypoints_{split}.json" for split in SPLITS),
    *(f"videos/{name}" for name in VIDEOS),
)
"""Files of the assets without which nothing shared is packed."""
PARTS = ("fsd", "small")
PACKAGES = (
    "mmengine",
    "mmcv-lite",
    "mmpose",
    "mmaction2",
    "addict",
    "yapf",
    "termcolor",
    "platformdirs",
    "json_tricks",
    "munkres",
    "pydantic",
    "pydantic_core",
    "annotated-types",
    "typing-inspection",
    "pycocotools",
    "setuptools",
    "xtcocotools",
)
"""Fetched in the versions of requirements/. Not decord: only a decoder that no part uses loads it.

There is no wheel of xtcocotools for Python 3.12: its Python files come from that for 3.11, its
compiled part is pycocotools', of which it is a copy.
"""
PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
    "manylinux1_x86_64",
)
# Of setuptools only what mmengine imports; that machine's own setuptools stays in force.
_VENDORED = "setuptools/_vendor/"
_SETUPTOOLS = ("pkg_resources/", f"{_VENDORED}jaraco/", f"{_VENDORED}more_itertools/")
_CONFIGS = ("mmpose/.mim/configs/_base_/", "mmpose/.mim/configs/body_2d_keypoint/rtmo/")
_UNUSED = re.compile(r"(^|/)(tests?|yapftests)/|\.(pyi|pyx|c|h|md|typed)$|\.dist-info/RECORD")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--target", type=Path, default=PACK)
    parser.add_argument("--only", nargs="+", choices=["site", "shared", *PARTS], help="pack anew")
    given = parser.parse_args(argv)
    parts = given.only or ["site", "shared", *PARTS]
    try:
        pack(parts, given.assets, given.target)
        return report(sizes(given.target))
    except (OSError, ValueError, KeyError, RuntimeError, subprocess.SubprocessError) as error:
        print(f"nothing more packed: {error}", file=sys.stderr)
        return 2


def pack(parts: list[str], assets: Path, target: Path) -> None:
    """Pack these parts of it; what is not there is reported before any work.

    Raises:
        RuntimeError, OSError, ValueError, KeyError, SubprocessError: something cannot be had.

    """
    if "shared" in parts and (absent := [n for n in REQUIRED_FILES if not (assets / n).is_file()]):
        raise RuntimeError(f"--assets {assets}: expected {', '.join(absent)} there")
    data = target / "data"
    if "site" in parts:
        pack_site(target / "site.tar.xz")
    if "shared" in parts:
        pack_coco(assets / "coco", data / "coco")
        pack_videos(assets / "videos", data / "videos")
    for part in PARTS:
        if part in parts:
            pack_part(part, data / part)


# --- packages ----------------------------------------------------------------------


def pack_site(archive: Path, cache: Path = CACHE) -> None:
    """Write the packages that are needed as one archive, without what is never imported."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    scratch = archive.with_suffix(".part")
    preset = 9 | lzma.PRESET_EXTREME
    try:
        with (
            lzma.open(scratch, "wb", preset=preset) as file,
            tarfile.open(fileobj=file, mode="w") as packed,
        ):
            for name, body in sorted(site_files(fetch(cache)).items()):
                member = tarfile.TarInfo(name)
                member.size = len(body)
                packed.addfile(member, io.BytesIO(body))
        scratch.replace(archive)
    finally:
        scratch.unlink(missing_ok=True)  # it would travel


def fetch(cache: Path) -> list[Path]:
    """Return a wheel per package; pip fetches those that are not in the cache.

    Raises:
        RuntimeError: pip cannot, with its last output.

    """
    cache.mkdir(parents=True, exist_ok=True)
    return [_fetch(name, version, cache) for name, version in versions(PACKAGES).items()]


def _fetch(name: str, version: str, cache: Path) -> Path:
    stem = re.sub(r"[-_.]+", "_", name).lower()
    found = sorted(cache.glob(f"{stem}-{version}-*.whl"))
    if found:
        return found[0]
    python = "3.11" if name == "xtcocotools" else f"{PYTHON[0]}.{PYTHON[1]}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        python,
        "--dest",
        str(cache),
        f"{name}=={version}",
    ]
    command += [part for one in PLATFORMS for part in ("--platform", one)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    found = sorted(cache.glob(f"{stem}-{version}-*.whl"))
    if done.returncode or not found:
        raise RuntimeError(f"pip cannot fetch {name}=={version}: {done.stderr.strip()[-500:]}")
    return found[0]


def versions(names: tuple[str, ...]) -> dict[str, str]:
    """Return the versions that requirements/ pin, by name.

    Raises:
        KeyError: one that no file there pins.

    """
    lines = [
        line
        for path in sorted((ROOT / "requirements").glob("*.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    pins = dict(re.findall(r"^([\w-]+)==([\w.]+)", "\n".join(lines), re.MULTILINE))
    return {name: pins[name] for name in names}


def site_files(wheels: list[Path]) -> dict[str, bytes]:
    """Return the files of wheels that are needed there, by path."""
    found = {name: body for wheel in wheels for name, body in _wheel_files(wheel)}
    found["xtcocotools/_mask.py"] = b"from pycocotools._mask import *\n"
    return found


def _wheel_files(wheel: Path) -> Iterator[tuple[str, bytes]]:
    package = wheel.name.partition("-")[0]
    try:
        with zipfile.ZipFile(wheel) as packed:
            for info in packed.infolist():
                if not info.is_dir() and _is_needed(package, info.filename):
                    yield info.filename.removeprefix(_VENDORED), packed.read(info)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise RuntimeError(f"{wheel}: damaged ({error}); delete it and run this again") from error


def _is_needed(package: str, name: str) -> bool:
    if package == "setuptools":
        return name.startswith(_SETUPTOOLS) and not _UNUSED.search(name)
    if package == "xtcocotools":
        return name.startswith("xtcocotools/") and name.endswith(".py")
    if "/.mim/" in name:
        return name.startswith(_CONFIGS)
    return not _UNUSED.search(name)


# --- data --------------------------------------------------------------------------


def pack_coco(source: Path, target: Path) -> None:
    """Write COCO's pictures of annotated people, at a lower JPEG quality, and their annotations.

    A picture without a labelled person plays no part in the training or the scores of a top-down
    network with annotated boxes. Sizes stay, so the annotations do; the quality is
    ``JPEG_QUALITY`` as the originals would take four times the room (they are at about 95).
    """
    for split in SPLITS:
        name = f"annotations/person_keypoints_{split}.json"
        given = json.loads((source / name).read_text(encoding="utf-8"))
        shown = {one["image_id"] for one in given["annotations"] if one["num_keypoints"] > 0}
        given["images"] = [one for one in given["images"] if one["id"] in shown]
        given["annotations"] = [one for one in given["annotations"] if one["image_id"] in shown]
        (target / "annotations").mkdir(parents=True, exist_ok=True)
        (target / split).mkdir(exist_ok=True)
        (target / name).write_text(json.dumps(given), encoding="utf-8")
        for image in given["images"]:
            _encode(source / split / image["file_name"], target / split / image["file_name"])


def _encode(source: Path, target: Path) -> None:
    import cv2

    picture = cv2.imread(str(source))
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    if picture is None or not cv2.imwrite(str(target), picture, options):
        raise RuntimeError(f"{source}: cannot be read as a picture, or {target} not be written")


def pack_videos(source: Path, target: Path) -> None:
    """Copy the short street scenes; the parts decode frames from them."""
    target.mkdir(parents=True, exist_ok=True)
    for name in VIDEOS:
        shutil.copyfile(source / name, target / name)


def pack_part(part: str, target: Path) -> None:
    """Let a part gather its own data, where it has any to gather."""
    name = f"benchmarks.gpu.{part}_data"
    if importlib.util.find_spec(name) is None:
        print(f"{name}: not there, nothing packed for it")
        return
    target.mkdir(parents=True, exist_ok=True)
    importlib.import_module(name).pack(target)


# --- sizes -------------------------------------------------------------------------


def sizes(target: Path) -> dict[str, int]:
    """Return bytes by what travels: the sources, and everything in the pack's folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / one for one in listed.stdout.decode().split("\0") if one]
    found = {"sources": sum(path.stat().st_size for path in paths if path.is_file())}
    for path in sorted(target.glob("*")) + sorted((target / "data").glob("*")):
        if path != target / "data":
            inside = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            found[path.relative_to(target).as_posix()] = sum(p.stat().st_size for p in inside)
    return found


def report(found: dict[str, int], limit_mib: float = LIMIT_MIB) -> int:
    """Print sizes; return 1 where they are too much together."""
    total = sum(found.values()) / MIB
    for name, size in {**found, "in all": sum(found.values())}.items():
        print(f"{name:16} {size / MIB:7.2f} MiB")
    if total > limit_mib:
        print(
            f"expected at most {limit_mib:g} MiB in all; cut the largest of these", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
