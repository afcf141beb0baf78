"""The libraries' own configs: nothing in them that they read is refused."""

from pathlib import Path

import pytest

pytest.importorskip("torch")
mmaction = pytest.importorskip("mmaction")
mmpose = pytest.importorskip("mmpose")

from mmengine.config import Config  # noqa: E402
from mmengine.config.utils import ConfigParsingError  # noqa: E402

from recognizer.openmmlab import load_mmaction, load_mmpose, scope  # noqa: E402
from recognizer.runner.config_keys import unknown_keys  # noqa: E402

# Mistakes of theirs: the class takes no such argument, and building it fails.
WRONG = {("yoloxpose_tiny_4xb64-300e_coco-416.py", "extra_mapping_labels")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "load", "folder", "least"),
    [
        (mmaction, load_mmaction, "skeleton", 40),
        (mmpose, load_mmpose, "body_2d_keypoint", 200),
    ],
    ids=["skeleton", "body_2d_keypoint"],
)
def test_no_key_that_the_libraries_configs_give_is_refused(library, load, folder, least):
    load()
    checked, refused = 0, []
    paths = (Path(library.__file__).parent / ".mim/configs" / folder).rglob("*.py")
    for path in sorted(paths):
        try:
            cfg = Config.fromfile(str(path))
        except ConfigParsingError:  # one imports files that the package lacks
            continue
        checked += 1
        with scope(library.__name__):
            faults = unknown_keys(cfg, list)
        refused += [
            (path.name, fault.key, fault.message)
            for fault in faults
            if (path.name, fault.key.rpartition(".")[2]) not in WRONG
        ]
    assert checked >= least
    assert refused == []
