"""What travels: the files of wheels that are needed, pictures of people, and not too much."""

import io
import json
import random
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.gpu import _site, pack
from benchmarks.gpu._part import ROOT

COCO = pack.ASSETS / "coco"


@pytest.mark.parametrize(
    ("package", "name", "needed"),
    [
        ("mmpose", "mmpose/models/heads/base_head.py", True),
        ("mmpose", "mmpose/testing/_utils.py", True),
        ("mmpose", "mmpose/.mim/configs/body_2d_keypoint/rtmo/body7/rtmo-s.py", True),
        ("mmpose", "mmpose/.mim/configs/_base_/datasets/coco.py", True),
        ("mmpose", "mmpose/.mim/configs/hand_2d_keypoint/a.py", False),
        ("mmaction2", "mmaction/.mim/tools/train.py", False),
        ("mmpose", "mmpose-1.3.2.dist-info/METADATA", True),
        ("mmpose", "mmpose-1.3.2.dist-info/RECORD", False),
        ("setuptools", "pkg_resources/__init__.py", True),
        ("setuptools", "pkg_resources/tests/test_markers.py", False),
        ("setuptools", "setuptools/_vendor/jaraco/text/__init__.py", True),
        ("setuptools", "setuptools/dist.py", False),
        ("xtcocotools", "xtcocotools/coco.py", True),
        ("xtcocotools", "xtcocotools/_mask.cpython-311-x86_64-linux-gnu.so", False),
        ("pycocotools", "pycocotools/_mask.cpython-312-x86_64-linux-gnu.so", True),
    ],
)
def test_only_what_is_imported_travels(package, name, needed):
    assert pack._is_needed(package, name) is needed


def test_every_package_is_fetched_in_the_version_that_the_requirements_pin():
    found = pack.versions(pack.PACKAGES)
    assert list(found) == list(pack.PACKAGES)
    pins = (ROOT / "requirements" / "openmmlab.txt").read_text()
    assert f"mmpose=={found['mmpose']}" in pins
    with pytest.raises(KeyError, match="no-such"):
        pack.versions(("no-such",))


def test_wheels_become_one_archive_that_is_unpacked_once(tmp_path, monkeypatch):
    wheel = tmp_path / "setuptools-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("pkg_resources/__init__.py", "A = 1\n")
        made.writestr("setuptools/_vendor/jaraco/a.py", "B = 2\n")
        made.writestr("setuptools/dist.py", "")
    monkeypatch.setattr(pack, "fetch", lambda _: [wheel])
    archive, site = tmp_path / ".gpu" / "site.tar.xz", tmp_path / "site"
    pack.pack_site(archive)
    with tarfile.open(archive) as packed:
        assert packed.getnames() == [
            "jaraco/a.py",
            "pkg_resources/__init__.py",
            "xtcocotools/_mask.py",
        ]
    monkeypatch.setattr(_site, "PYTHON", sys.version_info[:2])
    assert _site.unpack(archive, site) == site
    assert (site / "jaraco" / "a.py").read_text() == "B = 2\n"
    (site / "jaraco" / "a.py").write_text("kept\n")
    _site.unpack(archive, site)
    assert (site / "jaraco" / "a.py").read_text() == "kept\n"


def test_an_archive_that_cannot_serve_is_refused_with_what_to_do(tmp_path, monkeypatch):
    archive = tmp_path / "site.tar.xz"
    with pytest.raises(RuntimeError, match=r"benchmarks\.gpu\.pack"):
        _site.unpack(archive, tmp_path / "site")
    archive.write_bytes(b"")
    monkeypatch.setattr(_site, "PYTHON", (2, 7))
    with pytest.raises(RuntimeError, match=r"built for Python 2\.7, this is 3\."):
        _site.unpack(archive, tmp_path / "site")


@pytest.mark.skipif(not COCO.is_dir(), reason="needs ../shared/assets/coco")
def test_pictures_of_people_travel_with_their_annotations_untouched(tmp_path):
    import cv2

    pack.pack_coco(COCO, tmp_path)
    for split in ("train2017", "val2017"):
        name = f"annotations/person_keypoints_{split}.json"
        whole, cut = (json.loads((one / name).read_text()) for one in (COCO, tmp_path))
        expected = [one for one in whole["annotations"] if one["num_keypoints"]]
        assert [one for one in cut["annotations"] if one["num_keypoints"]] == expected
        assert cut["categories"] == whole["categories"]
        for image in cut["images"]:
            picture = cv2.imread(str(tmp_path / split / image["file_name"]))
            assert picture.shape == (image["height"], image["width"], 3)
            original = cv2.imread(str(COCO / split / image["file_name"]))
            assert cv2.PSNR(picture, original) > 28
        assert len(list((tmp_path / split).iterdir())) == len(cut["images"])


@pytest.mark.parametrize(("mib", "code"), [(59, 0), (61, 1)])
def test_too_much_is_refused_with_the_sizes(mib, code, capsys):
    assert pack.report({"sources": pack.MIB, "data/fsd": (mib - 1) * pack.MIB}) == code
    output = capsys.readouterr()
    assert f"{'data/fsd':16} {mib - 1:7.2f} MiB" in output.out
    assert ("at most 60 MiB" in output.err) is bool(code)


def test_sizes_count_sources_and_every_folder_of_the_pack_once(tmp_path):
    (tmp_path / "data" / "fsd").mkdir(parents=True)
    (tmp_path / "site.tar.xz").write_bytes(b"12345")
    (tmp_path / "data" / "fsd" / "a.bin").write_bytes(b"123")
    found = pack.sizes(tmp_path)
    assert found.pop("sources") > pack.MIB
    assert found == {"site.tar.xz": 5, "data/fsd": 3}


# --- what cannot be packed or unpacked ------------------------------------------------


def site_of(path, *members):
    with tarfile.open(path, "w:xz") as made:
        for member, body in members:
            member.size = len(body)
            made.addfile(member, io.BytesIO(body))
    return path


def linked(name, target):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


HARMFUL = {
    "climbs": tarfile.TarInfo("../../evil.py"),
    "link outside": linked("a", "../../../etc"),
    "pipe": tarfile.TarInfo("pipe"),
}
HARMFUL["pipe"].type = tarfile.FIFOTYPE


@pytest.mark.parametrize("kind", [*HARMFUL, "cut", "noise", "empty"])
def test_an_archive_that_is_damaged_or_tampered_with_leaves_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(_site, "PYTHON", sys.version_info[:2])
    site = tmp_path / "a" / "b" / "site"
    good = site_of(tmp_path / "good.tar.xz", (tarfile.TarInfo("a.py"), random.randbytes(50_000)))
    _site.unpack(good, site)
    bad = tmp_path / "bad.tar.xz"
    if kind in HARMFUL:
        site_of(bad, (tarfile.TarInfo("first.py"), b"B = 2\n"), (HARMFUL[kind], b""))
    else:
        whole = good.read_bytes()
        noise = b"\xfd7zXZ\0" + b"!" * 99
        bad.write_bytes({"cut": whole[: len(whole) // 2], "noise": noise, "empty": b""}[kind])
    with pytest.raises(RuntimeError, match=r"bad\.tar\.xz: expected an archive.*--only site"):
        _site.unpack(bad, site)
    assert (site / "a.py").is_file()  # what was there stays
    assert [path.name for path in site.parent.iterdir()] == ["site"]
    assert not list(tmp_path.rglob("evil.py"))
    assert _site.unpack(good, site) == site


def test_a_newer_archive_leaves_nothing_of_the_older(tmp_path, monkeypatch):
    monkeypatch.setattr(_site, "PYTHON", sys.version_info[:2])
    old = site_of(tmp_path / "old.tar.xz", (tarfile.TarInfo("old.py"), b"A = 1\n"))
    new = site_of(tmp_path / "new.tar.xz", (tarfile.TarInfo("new.py"), b"B = 2\n"))
    site = tmp_path / "site"
    _site.unpack(old, site)
    (site / _site.MARK).write_bytes(b"\xff")  # damaged: unpacked again
    _site.unpack(old, site)
    _site.unpack(new, site)
    assert {path.name for path in site.glob("*.py")} == {"new.py"}
    (compiled,) = (site / "__pycache__").glob("new.*.pyc")
    assert str(site / "new.py").encode() in compiled.read_bytes()  # as tracebacks name it


def test_without_the_assets_it_says_so_before_any_work(tmp_path, capsys):
    arguments = ["--assets", str(tmp_path / "none"), "--target", str(tmp_path / "pack")]
    assert pack.main(arguments) == 2
    assert "person_keypoints_train2017.json" in capsys.readouterr().err
    assert not (tmp_path / "pack").exists()


def test_a_damaged_wheel_is_named_and_nothing_half_done_travels(tmp_path, monkeypatch, capsys):
    wheel = tmp_path / "mmpose-1-py3-none-any.whl"
    wheel.write_bytes(b"PK cut off")
    monkeypatch.setattr(pack, "fetch", lambda _: [wheel])
    assert pack.main(["--only", "site", "--target", str(tmp_path / "pack")]) == 2
    assert f"{wheel}: damaged" in capsys.readouterr().err
    assert not list((tmp_path / "pack").rglob("*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_reported(tmp_path, monkeypatch, capsys):
    def full(*arguments):
        with Path("/dev/full").open("wb", buffering=0) as file:
            file.write(b"x")

    monkeypatch.setattr(pack, "pack_site", full)
    assert pack.main(["--only", "site", "--target", str(tmp_path)]) == 2
    assert "No space left" in capsys.readouterr().err
