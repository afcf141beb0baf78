"""mmpose and mmaction2 as they are today: import, build, run, and leave no trace."""

import importlib.util
import os
import pickle
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import pytest

from recognizer import openmmlab
from recognizer.openmmlab import load_mmaction, load_mmpose, scope, shipped_config

ROOT = Path(__file__).resolve().parents[1]
RTMO_S = "body_2d_keypoint/rtmo/body7/rtmo-s_8xb32-600e_body7-640x640.py"
INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "mmaction", "mmpose"))

needs_training_set = pytest.mark.skipif(
    not INSTALLED, reason="the training set is not installed (make setup-dev)"
)

# The guide's section 2.2, as it stands.
VAL_PIPELINE = [
    dict(type="PreNormalize2D"),
    dict(type="GenSkeFeat", dataset="coco", feats=["b"]),
    dict(type="UniformSampleFrames", clip_len=100, num_clips=1, test_mode=True),
    dict(type="PoseDecode"),
    dict(type="FormatGCNInput", num_person=4),
    dict(type="PackActionInputs"),
]


def annotations() -> list[dict]:
    rng = np.random.default_rng(0)
    return [
        {
            "frame_dir": f"clip_{i}",
            "total_frames": frames,
            "img_shape": (360, 640),
            "original_shape": (360, 640),
            "label": i,
            "keypoint": rng.uniform(0, 360, (people, frames, 17, 2)).astype(np.float32),
            "keypoint_score": np.ones((people, frames, 17), np.float32),
        }
        for i, (people, frames) in enumerate([(2, 60), (4, 150)])
    ]


def run_alone(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "RTMO_S": RTMO_S},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_training_set
def test_pose_dataset_runs_the_guides_pipeline(tmp_path):
    (tmp_path / "val.pkl").write_bytes(pickle.dumps(annotations()))
    load_mmaction()
    with scope("mmaction"):
        from mmaction.registry import DATASETS

        dataset = DATASETS.build(
            dict(
                type="PoseDataset",
                ann_file=str(tmp_path / "val.pkl"),
                pipeline=VAL_PIPELINE,
                test_mode=True,
            )
        )
        items = [dataset[i] for i in range(len(dataset))]
    assert [tuple(item["inputs"].shape) for item in items] == [(1, 4, 100, 17, 3)] * 2
    assert [int(item["data_samples"].gt_labels.item) for item in items] == [0, 1]
    # Two people fill two slots of four; the other two stay zero.
    assert [bool(items[0]["inputs"][0, m].any()) for m in range(4)] == [True, True, False, False]


@needs_training_set
def test_rtmo_s_builds_runs_and_has_9_87_million_parameters():
    import torch
    from mmengine import Config

    load_mmpose()
    config = Config.fromfile(shipped_config("mmpose", RTMO_S))
    config.model.backbone.init_cfg = None  # would fetch ImageNet weights
    with scope("mmpose"):
        from mmpose.registry import MODELS

        torch.manual_seed(0)
        model = MODELS.build(config.model).eval()
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == 9.87
    with torch.no_grad():
        head = model.head.head_module(model.extract_feat(torch.zeros(1, 3, 128, 128)))
    assert head is not None


@needs_training_set
def test_scopes_do_not_leak():
    from mmengine.registry import DefaultScope

    def current() -> str | None:
        instance = DefaultScope.get_current_instance()
        return instance.scope_name if instance else None

    before = current()
    load_mmaction()
    load_mmpose()
    assert current() == before
    with scope("mmaction"):
        assert current() == "mmaction"
        with scope("mmpose"):
            assert current() == "mmpose"
        assert current() == "mmaction"
    assert current() == before
    with pytest.raises(KeyError), scope("mmpose"):
        raise KeyError
    assert current() == before


@needs_training_set
def test_a_name_means_what_the_scope_says():
    """Both libraries have a PackXInputs and a model wrapper; each only in its own scope."""
    from mmengine.registry import TRANSFORMS

    with scope("mmaction"):
        made = TRANSFORMS.build(dict(type="PackActionInputs"))
        assert type(made).__module__.startswith("mmaction.")
        with pytest.raises(KeyError):
            TRANSFORMS.build(dict(type="PackPoseInputs"))
    with scope("mmpose"):
        made = TRANSFORMS.build(dict(type="PackPoseInputs"))
        assert type(made).__module__.startswith("mmpose.")


@needs_training_set
@pytest.mark.parametrize("order", [("mmpose", "mmaction"), ("mmaction", "mmpose")])
def test_either_order_works_and_stand_ins_are_gone(order):
    out = run_alone(
        f"""
        import importlib.util, sys
        from recognizer.openmmlab import _load
        for name in {order!r}:
            print(_load(name).__name__)
        stand_ins = [n for n in ("mmcv.ops", "mmdet", "mmdet.utils", "torchvision",
                     "torchvision.transforms") if n in sys.modules and not sys.modules[n].__spec__]
        print(stand_ins)
        from mmpose.models.heads.hybrid_heads.rtmo_head import reduce_mean
        import torch
        print(float(reduce_mean(torch.tensor(3.0))))
        """
    )
    assert out.split("\n")[:4] == [*order, "[]", "3.0"]


@needs_training_set
def test_reduce_mean_is_the_mean_over_processes(tmp_path):
    out = run_alone(
        f"""
        import os, torch, torch.multiprocessing as mp
        from torch import distributed
        from recognizer.openmmlab import _mean_over_processes

        def work(rank):
            distributed.init_process_group(
                "gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2)
            tensor = torch.tensor([1.0, 5.0]) + rank
            mean = _mean_over_processes(tensor).tolist()
            line = f"{{mean}} {{tensor.tolist()[0] == 1 + rank}}\\n"
            os.write(1, line.encode())  # in one piece: both processes share the pipe
            distributed.destroy_process_group()

        context = mp.get_context("fork")
        workers = [context.Process(target=work, args=(rank,)) for rank in range(2)]
        [worker.start() for worker in workers]
        [worker.join(60) for worker in workers]
        """
    )
    assert out.splitlines() == ["[1.5, 5.5] True"] * 2


def test_what_is_installed_is_used(monkeypatch):
    """With the real modules there, nothing is placed and nothing is taken away."""
    real = {name: types.ModuleType(name) for name in openmmlab._MISSING_MODULES}
    for name, module in real.items():
        monkeypatch.setitem(sys.modules, name, module)
    with openmmlab._stand_ins():
        assert all(sys.modules[name] is module for name, module in real.items())
    assert all(sys.modules[name] is module for name, module in real.items())


def test_a_stand_in_says_what_is_missing():
    stand_in = openmmlab._MISSING_MODULES["mmcv.ops"]["MultiScaleDeformableAttention"]
    with pytest.raises(NotImplementedError, match="MultiScaleDeformableAttention is not installed"):
        stand_in(embed_dims=8)
    assert not isinstance(1, stand_in)


def test_a_torchvision_for_another_torch_is_named(monkeypatch):
    def broken(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(openmmlab.importlib, "import_module", broken)
    with pytest.raises(ImportError, match="pip uninstall torchvision"):
        openmmlab._is_installed("torchvision.transforms")


@pytest.mark.parametrize("load", [load_mmaction, load_mmpose])
def test_without_the_training_set_the_message_is_the_command(monkeypatch, load):
    def missing(name, package=None):
        raise ModuleNotFoundError("No module named 'mmengine'", name="mmengine")

    monkeypatch.setattr(openmmlab.importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"make setup-dev.*--no-deps -r requirements/openmmlab"):
        load()


@needs_training_set
def test_a_config_that_is_not_shipped():
    with pytest.raises(FileNotFoundError, match="expected a shipped config"):
        shipped_config("mmpose", "nothing.py")
