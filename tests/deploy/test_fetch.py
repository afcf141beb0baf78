"""Mode models.fetch: what is asked for, what is there already, archives good and bad."""

import hashlib
import importlib.util
import logging
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from deploy import download, model_zoo
from deploy.download import read_member
from deploy.fetch import fetch
from recognizer.config.file import ConfigError, load_config
from recognizer.config.schema import Config
from recognizer.runs.progress import silent
from recognizer.storage.artifacts import ArtifactError, sha256_file
from tests.deploy.bad_server import good, raw, serving
from tests.deploy.fetching import (
    FILE,
    NETWORK,
    SDK,
    SHA256,
    WEIGHTS,
    archived,
    left,
    run,
    settings,
)

ROOT = Path(__file__).resolve().parents[2]
_OFFICIAL = dict(model_zoo.FILES)
pytestmark = pytest.mark.usefixtures("own_files")


# --- all is well -------------------------------------------------------------------


def test_a_checkpoint_arrives_whole_and_its_digest_is_reported(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    with serving(good(WEIGHTS)) as server:
        assert run(tmp_path / "weights", server) == 0
    assert (tmp_path / "weights" / FILE.file_name).read_bytes() == WEIGHTS
    assert SHA256 in caplog.text
    assert left(tmp_path / "weights") == [FILE.file_name]
    assert [request.path for request in server.requests] == [FILE.path]


def test_a_second_call_says_so_and_asks_nobody(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / FILE.file_name).write_bytes(WEIGHTS)
    with serving(good(WEIGHTS)) as server:
        assert run(tmp_path, server) == 0
    assert "already there" in caplog.text
    assert SHA256 in caplog.text
    assert server.requests == []


def test_an_archive_leaves_the_network_and_its_digest(tmp_path):
    with serving(good(SDK)) as server:
        assert run(tmp_path, server, "tiny-onnx", "tiny-onnx") == 0
        assert run(tmp_path, server, "tiny-onnx") == 0
    assert (tmp_path / "tiny.onnx").read_bytes() == NETWORK
    assert left(tmp_path) == ["tiny.onnx", "tiny.onnx.sha256"]
    assert len(server.requests) == 1
    line = (tmp_path / "tiny.onnx.sha256").read_text()
    assert line == f"{sha256_file(tmp_path / 'tiny.onnx')}  tiny.onnx\n"


def test_a_network_under_its_former_name_is_still_found(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "tiny-onnx.onnx"
    path.write_bytes(NETWORK)
    path.with_name("tiny-onnx.onnx.sha256").write_text(f"{sha256_file(path)}  {path.name}\n")
    with serving(good(SDK)) as server:
        assert run(tmp_path, server, "tiny-onnx") == 0
    assert server.requests == []
    assert "already there" in caplog.text
    assert "onnx.model_path=tiny-onnx.onnx" in caplog.text


def test_it_goes_to_the_first_folder_that_can_be_written_to(tmp_path):
    (tmp_path / "file").write_text("no folder")
    folders = [tmp_path / "file" / "weights", tmp_path / "new" / "weights", tmp_path / "other"]
    with serving(good(WEIGHTS)) as server:
        fetch(settings(tmp_path, server, weights_dirs=folders), silent)
        assert left(tmp_path / "new") == ["weights", f"weights/{FILE.file_name}"]
        # and is found wherever it is
        fetch(settings(tmp_path, server, weights_dirs=folders[::-1]), silent)
    assert len(server.requests) == 1


@pytest.mark.parametrize("headers", [{"transfer_encoding": "chunked"}, {}])
def test_a_server_that_does_not_say_how_long_it_is(tmp_path, headers):
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(WEIGHTS), WEIGHTS) if headers else WEIGHTS
    with serving(lambda _: raw("200 OK", chunks, content_length=None, **headers)) as server:
        run(tmp_path, server)
    assert left(tmp_path) == [FILE.file_name]


@pytest.mark.parametrize("names", [[], ["list"]])
def test_the_list(capsys, monkeypatch, names):
    monkeypatch.undo()
    assert fetch(Config.model_validate({"models": {"fetch": names}}), silent) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 + len(model_zoo.FILES)
    assert all("Apache-2.0" in line for line in lines[1:-4])
    assert "end2end_l" in lines[-4]
    assert "balanced (yolox-m-person-onnx + rtmpose-m-onnx)" in lines[-3]
    assert "research only" in lines[-2]
    assert lines[-1].startswith("next: ")


@pytest.mark.parametrize("name", ["end2end_l", "end2end_l.onnx"])
def test_the_guides_name_is_another_one_of_the_official_file(name, monkeypatch):
    monkeypatch.undo()
    file = model_zoo.named(name)
    assert file.path == model_zoo.FILES["rtmo-l-onnx"].path
    assert file.file_name == "end2end_l.onnx"  # what configs look for


# --- what is asked for -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("models.fetch=rtmo-l", ["rtmo-l"]),
        ("models.fetch=[a, b]", ["a", "b"]),
        ("models.fetch=", []),
        ("models.fetch=list", ["list"]),
    ],
)
def test_names_on_the_command_line(text, names):
    assert load_config(ROOT / "configs" / "config.yaml", [text]).models.fetch == names


def test_an_unknown_name_is_refused_before_any_work(tmp_path):
    with serving(good(WEIGHTS)) as server, pytest.raises(ConfigError, match="did you mean tiny"):
        run(tmp_path, server, "tiny", "tinny")
    assert server.requests == []
    assert left(tmp_path) == []


def test_no_folder_to_write_to(tmp_path):
    (tmp_path / "file").write_text("")
    for folders in ([], [tmp_path / "file"]):
        with pytest.raises(ConfigError, match="weights_dirs"):
            fetch(settings(tmp_path, None, weights_dirs=folders), silent)


@pytest.mark.parametrize(
    "mirror",
    [
        "http://example.org",
        "http://localhost:1",
        "http://127.0.0.1.example.org",
        "ftp://a.org",
        "file:///etc",
        "https://",
        "https://me:secret@example.org",
        "https://a.org/?x=",
        "a.org",
        "https://a.org/a b",
        "https://[::1",
    ],
)
def test_a_mirror_that_will_not_do(mirror):
    with pytest.raises(ConfigError, match=r"models\.mirror"):
        load_config(ROOT / "configs" / "config.yaml", [f"models.mirror='{mirror}'"])


def test_a_mirror_has_the_official_paths_below_its_own():
    mirror = Config.model_validate({"models": {"mirror": "https://a.org/mm/"}}).models.mirror
    assert mirror == "https://a.org/mm"


def test_the_table_is_what_the_packages_say(monkeypatch):
    monkeypatch.undo()
    found = set()
    for package, pattern in [("mmpose", "rtmo/body7/*.yml"), ("mmaction", "stgcnpp/metafile.yml")]:
        spec = importlib.util.find_spec(package)  # an import would take seconds
        if spec is None or spec.origin is None:
            pytest.skip(f"{package} is not installed")
        place = Path(spec.origin).parent
        for path in Path(place, ".mim", "configs").glob(f"*/{pattern}"):
            models = yaml.safe_load(path.read_text(encoding="utf-8"))["Models"]
            found |= {model["Weights"] for model in models}
    weights = [file for file in model_zoo.FILES.values() if file.member is None]
    assert len(weights) == 8
    for file in weights:
        assert model_zoo.HOST + file.path in found
        assert re.fullmatch("[0-9a-f]{8}", file.sha256_start)
    for file in model_zoo.FILES.values():
        if file.member and "/rtmo/" in file.path:
            twin = model_zoo.FILES[file.name.removesuffix("-onnx")]
            assert file.path == twin.path.replace("/rtmo/", "/rtmo/onnx_sdk/")[:-3] + "zip"
        if file.member:
            assert file.sha256_start is None


@pytest.mark.parametrize("name", ["lightweight", "balanced", "performance"])
def test_a_preset_brings_the_pair_that_its_config_names(name, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(model_zoo, "FILES", _OFFICIAL)
    pair = [_OFFICIAL[one] for one in model_zoo.PRESETS[name]]
    with serving(good(SDK)) as server:
        assert run(tmp_path, server, name) == 0
    assert [request.path for request in server.requests] == [file.path for file in pair]
    preset = ROOT / "configs" / "presets" / f"{name}.yaml"
    assert f"--config {preset} --mode annotation.stage1" in caplog.text
    pose = load_config(preset).models.pose_estimation
    names = [pose.topdown.detector.model_path, pose.onnx.model_path]
    assert names == [file.file_name for file in pair]
    assert all((tmp_path / one).read_bytes() == NETWORK for one in names)


# --- what is there already ---------------------------------------------------------


def test_another_file_of_that_name_is_kept_and_refused(tmp_path):
    (tmp_path / FILE.file_name).write_bytes(b"mine")
    with serving(good(WEIGHTS)) as server, pytest.raises(ArtifactError) as caught:
        run(tmp_path, server)
    mine = hashlib.sha256(b"mine").hexdigest()
    assert mine in str(caught.value)
    assert SHA256[:8] in str(caught.value)
    assert "delete" in str(caught.value)
    assert (tmp_path / FILE.file_name).read_bytes() == b"mine"
    assert server.requests == []


def test_a_network_that_nothing_vouches_for_is_refused(tmp_path):
    path = tmp_path / "tiny.onnx"
    path.write_bytes(NETWORK)
    beside = path.with_name("tiny.onnx.sha256")
    for text in (None, "", "nonsense", f"{SHA256}  tiny.onnx\n"):
        if text is not None:
            beside.write_text(text)
        with pytest.raises(ArtifactError, match="is there already"):
            run(tmp_path, None, "tiny-onnx")
    assert path.read_bytes() == NETWORK


def test_a_folder_of_that_name(tmp_path):
    (tmp_path / FILE.file_name).mkdir()
    with pytest.raises(ArtifactError, match="neither"):
        run(tmp_path, None)


def test_a_folder_in_the_scratch_folder_stays(tmp_path):
    inner = tmp_path / ".scratch" / "folder"
    inner.mkdir(parents=True)
    os.utime(inner, (1.0, 1.0))
    with serving(good(WEIGHTS)) as server:
        assert run(tmp_path, server) == 0
    assert left(tmp_path) == [".scratch", ".scratch/folder", FILE.file_name]


# --- archives ----------------------------------------------------------------------


BAD_ARCHIVES = {
    "no archive": WEIGHTS,
    "truncated": SDK[:-100],
    "no network in it": archived(("a/other.onnx", NETWORK)),
    "two networks": archived(("a/end2end.onnx", NETWORK), ("b/end2end.onnx", NETWORK)),
    "a flipped bit": SDK[:9000] + b"flip" + SDK[9004:],
}


@pytest.mark.parametrize("content", BAD_ARCHIVES.values(), ids=BAD_ARCHIVES)
def test_a_bad_archive_leaves_nothing(tmp_path, content):
    folder = tmp_path / "weights"
    with serving(good(content)) as server, pytest.raises(ArtifactError, match=r"sdk/tiny.*\.zip: "):
        run(folder, server, "tiny-onnx")
    assert left(tmp_path) == ["weights"]


@pytest.mark.parametrize("name", ["../end2end.onnx", "a/../../end2end.onnx", "/tmp/end2end.onnx"])
def test_no_path_of_an_archive_is_used(tmp_path, name):
    (tmp_path / "a.zip").write_bytes(archived((name, NETWORK), ("..\\evil", b"x")))
    assert read_member(tmp_path / "a.zip", "end2end.onnx") == NETWORK
    assert left(tmp_path) == ["a.zip"]


def test_a_link_in_an_archive_is_not_followed(tmp_path):
    info = zipfile.ZipInfo("a/end2end.onnx")
    info.external_attr = 0o120777 << 16
    (tmp_path / "a.zip").write_bytes(archived((info, b"/etc/passwd")))
    assert read_member(tmp_path / "a.zip", "end2end.onnx") == b"/etc/passwd"


def test_an_archive_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 1_000_000)
    (tmp_path / "a.zip").write_bytes(archived(("end2end.onnx", bytes(2_000_000))))
    with pytest.raises(ArtifactError, match="would unpack to 2000000 bytes"):
        read_member(tmp_path / "a.zip", "end2end.onnx")


def test_damaged_archives_are_refused_or_give_the_network(tmp_path):
    random = np.random.default_rng(3)
    small = archived(("a/b.json", b"{}" * 50), ("a/end2end.onnx", NETWORK[:3000]))
    archive, refused = tmp_path / "a.zip", 0
    for _ in range(300):
        damaged = bytearray(small)
        damaged[random.integers(len(small))] ^= 1 << int(random.integers(8))
        archive.write_bytes(damaged)
        try:
            network = read_member(archive, "end2end.onnx")
        except ArtifactError:
            refused += 1
        else:
            assert network == NETWORK[:3000]
    assert refused > 200


def test_a_damaged_lzma_member_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("end2end.onnx", os.urandom(200))
    data = bytearray(path.read_bytes())
    data[60:80] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="not a readable archive"):
        read_member(path, "end2end.onnx")
