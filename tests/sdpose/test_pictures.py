"""Pictures of a COCO file: of the size that training sees, readable and whole."""

import io
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from recognizer.sdpose.coco import validate_coco
from recognizer.sdpose.json_file import read_json
from recognizer.sdpose.pictures import ImageChecks, is_turned, look_at
from tests.sdpose.labels import content, person
from tests.sdpose.picture_files import WIDE, picture

from .small_coco import write_annotations

NAME = "a.jpg"


@pytest.fixture
def look(tmp_path):
    """Write pictures and annotations of a size, and validate them."""
    (tmp_path / "train2017").mkdir()

    def run(data, size=WIDE, name=NAME, stored=None, **checks):
        path = tmp_path / "train2017" / (stored or name)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
        image = {"id": 1, "file_name": name, "width": size[0], "height": size[1]}
        write_annotations(tmp_path, "train", content(person(), images=[image]))
        path = tmp_path / "annotations" / "person_keypoints_train2017.json"
        return validate_coco(path, tmp_path / "train2017", ImageChecks(**checks))

    return run


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
@pytest.mark.parametrize("color_type", ["color", "color_ignore_orientation"])
def test_the_size_is_the_one_that_mmpose_loads(look, tmp_path, orientation, color_type):
    """Whatever a file says, what passes is what LoadImage gives."""
    from recognizer.openmmlab import load_mmpose

    load_mmpose()
    from mmpose.datasets.transforms import LoadImage

    data = picture(orientation=orientation)
    step = {"type": "LoadImage", "color_type": color_type}
    turned = is_turned([step])
    (tmp_path / NAME).write_bytes(data)
    loaded = LoadImage(color_type=color_type)({"img_path": str(tmp_path / NAME)})
    height, width = loaded["img_shape"]
    summary = look(data, (width, height), turned=turned)
    unsure = orientation in (2, 3, 4) and turned
    assert len(summary.warnings) == unsure
    with pytest.raises(ValueError, match=f"got {height} x {width}"):
        look(data, (height, width), turned=turned)


@pytest.mark.parametrize(
    ("backend", "turned"),
    [("cv2", True), ("pillow", True), ("turbojpeg", False), ("tifffile", False)],
)
def test_other_decoders_turn_or_do_not(backend, turned):
    assert is_turned([{"type": "mmpose.LoadImage", "imdecode_backend": backend}]) is turned


@pytest.mark.parametrize(
    ("data", "size", "message"),
    [
        (picture(), (120, 80), r"60 x 40, got 120 x 80 .*1 : 2.*resized after"),
        (picture(), (40, 60), "are they swapped"),
        (picture(), (60, 60), "is it another picture"),
        (picture(), (61, 40), "got 61 x 40"),
        (picture(orientation=6), WIDE, "40 x 60, got 60 x 40 .* EXIF orientation 6"),
        (b"", WIDE, "a file that is empty"),
        (b"\0" * 5000, WIDE, "only zeros or blanks"),
        (b"<html>" + b"x" * 500, WIDE, "an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", WIDE, "git lfs pull"),
        (picture()[:-300], WIDE, "cut off"),
        (picture(form="PNG")[:-300], WIDE, "cut off|damaged"),
        (picture(form="WEBP")[:-300], WIDE, "cut off|damaged|OpenCV does not read"),
        (picture(form="GIF"), WIDE, "GIF, which OpenCV does not read"),
        (picture()[:30], WIDE, "damaged|cut off"),
        (b"no picture at all, but text" * 9, WIDE, "damaged"),
    ],
)
def test_what_is_no_such_picture_is_named(look, data, size, message):
    with pytest.raises(ValueError, match=message) as caught:
        look(data, size)
    assert NAME in str(caught.value)


def test_a_pipe_is_named_and_not_opened(look, tmp_path):
    (tmp_path / "train2017").mkdir(exist_ok=True)
    os.mkfifo(tmp_path / "train2017" / "pipe.jpg")
    with pytest.raises(ValueError, match=r"pipe\.jpg.* a pipe, socket or device"):
        look(picture(), name="pipe.jpg", stored="other.jpg")
    os.mkfifo(tmp_path / "boxes.json")
    with pytest.raises(ValueError, match=r"boxes\.json: expected a JSON file, got a pipe"):
        read_json(tmp_path / "boxes.json")


@pytest.mark.parametrize(
    "data",
    [
        picture(mode="L"),
        picture(mode="CMYK"),
        picture(form="PNG"),
        picture(form="WEBP"),
        picture(form="BMP"),
        picture(form="TIFF"),
        picture() + b"a camera's own trailer",
    ],
    ids=["grey", "CMYK", "PNG", "WebP", "BMP", "TIFF", "trailer"],
)
def test_what_mmpose_reads_passes_whatever_its_suffix(look, tmp_path, data):
    assert look(data).persons == 1
    assert look_at(tmp_path / "train2017" / NAME).size_wh == WIDE


def test_sixteen_bits_pass(look):
    file = io.BytesIO()
    Image.fromarray(np.full((40, 60), 40_000, np.uint16)).save(file, "PNG")
    assert look(file.getvalue()).persons == 1


@pytest.mark.parametrize(
    ("name", "stored", "hint"),
    [
        ("IMG_1.JPG", "img_1.jpg", "there is 'img_1.jpg', written otherwise"),
        (unicodedata.normalize("NFC", "정상.jpg"), unicodedata.normalize("NFD", "정상.jpg"), "NFD"),
        ("a\\b.jpg", "a/b.jpg", "write / for"),
        ("train2017/a.jpg", "a.jpg", "file_name is relative to it"),
        ("a.jpg", "b.jpg", "1 of 1 pictures"),
        ("a.jpg", "a.jpg/b.jpg", "1 of 1 pictures"),
    ],
)
def test_a_name_written_otherwise_is_pointed_at(look, name, stored, hint):
    with pytest.raises(FileNotFoundError, match=hint):
        look(picture(), name=name, stored=stored)


def test_pictures_in_folders_are_found(look):
    assert look(picture(), name="day/cam 1/가.jpg").persons == 1


def test_every_picture_is_reported(look):
    reported = []
    look(picture(), on_image=lambda done, total: reported.append((done, total)))
    assert reported == [(1, 1)]
