"""Checkpoints: read without running anything, whoever wrote them."""

import collections
import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmengine")

from mmengine.config import Config  # noqa: E402
from mmengine.logging import HistoryBuffer  # noqa: E402

from recognizer.runner.checkpoints import (  # noqa: E402
    CheckpointError,
    Dropped,
    checkpoint_config,
    inside,
    last_checkpoint,
    load_checkpoint,
    to_plain,
)

WEIGHTS = {"fc.weight": torch.ones(2, 3)}


class Bomb:
    """Runs a command when it is unpickled the ordinary way."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_bare_state_dict_and_a_whole_checkpoint_are_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / "bare.pth")
    torch.save({"state_dict": WEIGHTS, "meta": {"epoch": 3}}, tmp_path / "whole.pth")
    assert torch.equal(
        load_checkpoint(tmp_path / "bare.pth")["state_dict"]["fc.weight"], WEIGHTS["fc.weight"]
    )
    assert load_checkpoint(tmp_path / "whole.pth")["meta"] == {"epoch": 3}


def test_what_mmengine_saves_is_read_and_its_objects_are_dropped(tmp_path):
    buffer = HistoryBuffer([0.5, 0.25], [1, 1])
    torch.save(
        {
            "state_dict": OrderedDict(WEIGHTS),
            "meta": {"epoch": 1, "best": np.float64(0.5), "counts": np.arange(3)},
            "message_hub": {"log_scalars": {"train/loss": buffer}},
        },
        tmp_path / "theirs.pth",
    )
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "theirs.pth", weights_only=True)
    found = load_checkpoint(tmp_path / "theirs.pth")
    assert torch.equal(found["state_dict"]["fc.weight"], WEIGHTS["fc.weight"])
    assert isinstance(found["message_hub"]["log_scalars"]["train/loss"], Dropped)
    assert isinstance(found["meta"]["counts"], Dropped)


@pytest.mark.parametrize("place", ["meta", "message_hub", "state_dict", "top"])
@pytest.mark.parametrize("forced", [False, True])
def test_a_hostile_checkpoint_is_refused_and_runs_nothing(tmp_path, place, forced, monkeypatch):
    if forced:  # torch's own switch back to unsafe loading
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    bomb = Bomb(f"touch {tmp_path}/exploded")
    content = {"state_dict": dict(WEIGHTS), "meta": {}, "message_hub": {}}
    if place == "top":
        content = bomb
    else:
        content[place]["x"] = bomb
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="system"):
        load_checkpoint(tmp_path / "bad.pth")
    assert not (tmp_path / "exploded").exists()


def test_arrays_of_objects_made_of_bytes_are_not_made(tmp_path):
    """NumPy's own functions, allowed as they are, would read memory at any address."""

    class Forged:
        def __reduce__(self):
            rebuild = getattr(np.core.multiarray, "_reconstruct")  # noqa: B009
            state = (1, (1,), np.dtype("O"), False, b"\x41" * 8)
            return rebuild, (np.ndarray, (0,), b"b"), state

    torch.save({"state_dict": WEIGHTS, "meta": {"x": Forged()}}, tmp_path / "forged.pth")
    assert isinstance(load_checkpoint(tmp_path / "forged.pth")["meta"]["x"], Dropped)


@pytest.mark.parametrize("how", ["short", "flipped", "empty", "text", "pickle"])
def test_a_damaged_checkpoint_is_refused(tmp_path, how):
    path = tmp_path / "x.pth"
    torch.save({"state_dict": WEIGHTS, "meta": {}}, path)
    data = path.read_bytes()
    middle = len(data) // 2
    damaged = {
        "short": data[:middle],
        "flipped": data[:40] + bytes(255 - b for b in data[40:90]) + data[90:],
        "empty": b"",
        "text": b"<html>not found</html>",
        "pickle": pickle.dumps([1, 2, 3]),
    }
    path.write_bytes(damaged[how])
    with pytest.raises(CheckpointError, match=r"x\.pth") as error:
        load_checkpoint(path)
    assert "weights_only" not in str(error.value), "torch's advice is to load it unsafely"


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"state_dict": {"a": 1}},
        {"state_dict": {}},
        {"meta": {}, "x": 1},
        {"state_dict": WEIGHTS, "meta": [1]},
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="expected"):
        load_checkpoint(tmp_path / "x.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        load_checkpoint(tmp_path / "none.pth")


# --- which file to go on from ------------------------------------------------------


def test_the_pointer_is_followed_inside_the_folder_only(tmp_path, caplog):
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    other.mkdir()
    for folder in (run, other):
        for epoch in (9, 10):
            torch.save(WEIGHTS, folder / f"epoch_{epoch}.pth")
    assert last_checkpoint(run) == (run / "epoch_10.pth").resolve()
    (run / "last_checkpoint").write_text(str(run / "epoch_9.pth"))
    assert last_checkpoint(run) == (run / "epoch_9.pth").resolve()
    (run / "last_checkpoint").write_text("epoch_9.pth\n")  # by hand
    assert last_checkpoint(run) == (run / "epoch_9.pth").resolve()
    (run / "last_checkpoint").write_text("")  # killed while writing it
    assert last_checkpoint(run) == (run / "epoch_10.pth").resolve()
    for copied in (other / "epoch_9.pth", run / ".." / "gone" / "epoch_9.pth"):
        caplog.clear()
        (run / "last_checkpoint").write_text(str(copied))
        assert last_checkpoint(run) == (run / "epoch_9.pth").resolve()
        assert "of the same name in this folder" in caplog.text
    for outside in (other / "epoch_8.pth", run / ".." / "other" / "epoch_8.pth", Path("/etc/x")):
        (run / "last_checkpoint").write_text(str(outside))
        with pytest.raises(CheckpointError, match="of this run"):
            last_checkpoint(run)
    (run / "last_checkpoint").write_text(str(run / "epoch_11.pth"))
    with pytest.raises(CheckpointError, match="not there"):
        last_checkpoint(run)
    for odd in (b"a\0b", b"x" * 5000):
        (run / "last_checkpoint").write_bytes(odd)
        with pytest.raises(CheckpointError) as caught:
            last_checkpoint(run)
        assert len(str(caught.value)) < 700
    (run / "last_checkpoint").unlink()
    (run / "last_checkpoint").mkdir()
    assert last_checkpoint(run) == (run / "epoch_10.pth").resolve()
    assert last_checkpoint(tmp_path) is None


def test_a_link_out_of_the_folder_is_outside(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    torch.save(WEIGHTS, tmp_path / "epoch_1.pth")
    (run / "epoch_1.pth").symlink_to(tmp_path / "epoch_1.pth")
    with pytest.raises(CheckpointError, match="of this run"):
        inside(run / "epoch_1.pth", run)
    with pytest.raises(CheckpointError, match="of this run"):
        last_checkpoint(run)


# --- plain values ------------------------------------------------------------------


def test_objects_become_plain_values(tmp_path):
    plain = to_plain(
        {
            "a": np.float64(0.5),
            "b": np.arange(3),
            "c": (1, [np.int64(2)]),
            "d": Path("x"),
            "e": collections.Counter([1, 1]),
            "f": len,
            "g": torch.ones(1),
            3: None,
        }
    )
    torch.save(plain, tmp_path / "x.pth")
    found = torch.load(tmp_path / "x.pth", weights_only=True)
    assert found["a"] == 0.5
    assert found["b"].tolist() == [0, 1, 2]
    assert found["c"] == (1, [2])
    assert found["d"] == "x"
    assert found["e"] == {1: 2}
    assert "f" not in found
    assert found[3] is None


@pytest.mark.parametrize("value", [{"a": object()}, [set()], {"a": np.array([object()])}])
def test_what_has_no_plain_form_is_named(value):
    with pytest.raises(TypeError, match="expected a tensor"):
        to_plain(value)


# --- the config in a checkpoint ----------------------------------------------------


def test_the_config_comes_back_as_it_was():
    cfg = Config(
        {
            "model": {"type": "A", "betas": (0.9, 0.999), "x": None, "deep": {"a-b": [1, -2.5]}},
            "lr": float("inf"),
            "name": 'it\'s "quoted"\n',
            "topk": (1,),
            "ok": True,
            "hooks": [{"type": "H", "when": {}}],
        }
    )
    found = checkpoint_config({"meta": {"cfg": cfg.pretty_text}})
    assert found.to_dict() == cfg.to_dict()


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.system('touch {0}/exploded')",
        "model = __import__('os').system('touch {0}/exploded')",
        'model = dict(type=exec(\'open("{0}/exploded", "w")\'))',
        "model = [x for x in ().__class__.__base__.__subclasses__()]",
        "model, other = 1, 2",
        "model = dict(1)",
        "model = (",
    ],
)
def test_a_config_that_is_code_is_refused(tmp_path, text):
    with pytest.raises(CheckpointError, match="plain values"):
        checkpoint_config({"meta": {"cfg": text.replace("{0}", str(tmp_path))}})
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "text",
    [
        "model = dict(type='os.system', command='true')",
        "model = dict(backbone=dict(type='subprocess.Popen', args=['true']))",
        "test_dataloader = dict(dataset=dict(pipeline=[dict(type='os.system')]))",
        "model = dict(type=3)",
    ],
)
def test_a_config_that_names_functions_by_their_module_is_refused(text):
    with pytest.raises(CheckpointError, match="registered type"):
        checkpoint_config({"meta": {"cfg": text}})


def test_no_config_is_reported(tmp_path):
    with pytest.raises(CheckpointError, match="found none"):
        checkpoint_config({"meta": {}})
