"""The config of cameras: what is refused, with which words, and no password shown."""

import pytest
from pydantic import ValidationError

from recognizer.config.live import CameraConfig, EvidenceConfig, SourceConfig
from recognizer.config.realtime import LiveConfig


def test_the_defaults_are_those_of_the_documentation():
    source, evidence = SourceConfig(), EvidenceConfig()
    assert (source.open_timeout_s, source.read_timeout_s, source.gap_s) == (5.0, 2.0, 1.0)
    assert (source.probe_bytes, source.analyse_us) == (50_000, 200_000)
    assert (evidence.before_s, evidence.after_s) == (5.0, 5.0)
    assert (evidence.max_s, evidence.max_mib) == (30.0, 64.0)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://10.0.0.5/stream",
        "rtsps://user:p%40ss@camera.lan:322/live?channel=1",
        "http://[::1]:8080/video",
        "udp://239.0.0.1:1234",
    ],
)
def test_addresses_of_cameras_are_accepted(url):
    assert CameraConfig(name="door", url=url).url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "camera.lan/stream",
        "rtsp:///stream",
        "file:///etc/passwd",
        "concat:a|b",
        "ftp://host/a",
        "rtsp://host:0/a",
        "rtsp://host:99999/a",
        "rtsp://host/a b",
        "rtsp://host/a\nb",
    ],
)
def test_other_addresses_are_refused(url):
    with pytest.raises(ValidationError, match=r"url\n.*expected an address"):
        CameraConfig(name="door", url=url)


@pytest.mark.parametrize(
    ("keys", "came"),
    [({}, "none"), ({"url": "rtsp://host/a", "device": 0}, "url and device")],
)
def test_a_camera_is_at_exactly_one_place(keys, came):
    with pytest.raises(ValidationError, match=f"expected one of url, device and path, got {came}"):
        CameraConfig(name="door", **keys)


def test_only_a_file_can_be_as_fast_as_it_goes():
    with pytest.raises(ValidationError, match="fastest, which takes a path"):
        CameraConfig(name="door", device=0, speed="fastest")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\tb"])
def test_names_that_are_no_names_of_files_are_refused(name):
    with pytest.raises(ValidationError, match="expected a"):
        CameraConfig(name=name, device=0)


def test_no_text_of_a_camera_shows_its_password():
    camera = CameraConfig(name="door", url="rtsp://user:hidden@host/a")
    assert "hidden" not in repr(camera) + str(camera)


def test_what_is_kept_fits_its_limits():
    with pytest.raises(
        ValidationError, match=r"expected before_s <= keep_s <= max_s, got 5\.0, 40"
    ):
        EvidenceConfig(keep_s=40.0)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["door", "door"], "door twice"),
        ([".Scratch"], "another name"),
        (["a/b"], "plain name"),
        (["a\nb"], "visible"),
        (["x" * 300], "100 bytes"),
        ([".."], "plain name"),
    ],
)
def test_names_that_cannot_be_folders_of_clips_are_refused(names, words):
    with pytest.raises(ValidationError, match=words):
        LiveConfig.model_validate({"cameras": [{"name": name, "device": 0} for name in names]})


def test_a_thousand_cameras_are_accepted_also_with_names_that_differ_in_case_alone():
    cameras = [{"name": name, "device": 0} for n in range(500) for name in (f"cam{n}", f"CAM{n}")]
    assert len(LiveConfig.model_validate({"cameras": cameras}).cameras) == 1000
