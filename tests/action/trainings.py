"""Small trainings on real clips, for the tests of training: data, configs, recorded losses."""

from pathlib import Path
from typing import Any

from recognizer.dataset.mmaction import write_split
from tests.action.clips import real_samples

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "skeleton" / "stgcnpp"
FIGHT = CONFIGS / "stgcnpp_enhanced_fight_detection_stable.py"
FALLDOWN = CONFIGS / "stgcnpp_enhanced_falldown_detection_stable.py"
LOADERS = ("train", "val", "test")

# The guide's network, narrow and on short clips.
TINY = (
    "model.backbone.base_channels=16",
    "model.cls_head.in_channels=32",
    *(f"{split}_dataloader.dataset.pipeline.2.clip_len=12" for split in LOADERS),
    *(f"{split}_dataloader.batch_size=4" for split in LOADERS),
    *(f"{split}_dataloader.num_workers=0" for split in LOADERS),
    *(f"{split}_dataloader.persistent_workers=False" for split in LOADERS),
    "default_hooks.checkpoint.interval=2",
    "train_cfg.max_epochs=4",
    "randomness.seed=7",
    "visualizer.vis_backends=[]",
)


def write_data(folder: Path) -> Path:
    """Write train.pkl (10 clips, 5 of each class), val.pkl (6) and test.pkl (the rest)."""
    folder.mkdir(parents=True, exist_ok=True)
    by_class = [[s for s in real_samples() if s.label == label] for label in (0, 1)]
    for split, start, stop in (("train", 0, 5), ("val", 5, 8), ("test", 8, 10)):
        write_split(folder / f"{split}.pkl", folder, [s for c in by_class for s in c[start:stop]])
    return folder


def options(data: Path, *more: str) -> list[str]:
    files = [f"{split}_dataloader.dataset.ann_file={data}/{split}.pkl" for split in LOADERS]
    return [*TINY, *files, *more]


def tiny(data: Path, work_dir: Path, *more: str, path: Path = FIGHT) -> Any:
    """Return the guide's config made small."""
    from recognizer.action.training import load_train_config

    cfg = load_train_config(path, options(data, *more))
    cfg.work_dir = str(work_dir)
    return cfg


def record_losses(cfg: Any) -> dict[int, float]:
    """Let a config's training record its losses; return where they go, by iteration."""
    from mmaction.registry import HOOKS
    from mmengine.hooks import Hook

    losses: dict[int, float] = {}

    class RecordLosses(Hook):  # type: ignore[misc]  # mmengine has no types
        def after_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
        ) -> None:
            losses[runner.iter] = outputs["loss"].item()

    HOOKS.register_module(module=RecordLosses, force=True)
    cfg.custom_hooks = [*cfg.custom_hooks, {"type": "RecordLosses"}]
    return losses
