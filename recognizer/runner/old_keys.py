"""Keys of mmcv 1.x, which guides still name, and what mmengine reads in their place.

Each is answered with the user's own values: a change is a dotted path below the config with what
to write there (``config_lines`` makes lines of it).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from recognizer.runner.config_places import at, replaced, walk
from recognizer.runner.engine import Changes, Section

_BACKENDS = {
    "TextLoggerHook": "LocalVisBackend",
    "TensorboardLoggerHook": "TensorboardVisBackend",
    "WandbLoggerHook": "WandbVisBackend",
    "MlflowLoggerHook": "MLflowVisBackend",
    "NeptuneLoggerHook": "NeptuneVisBackend",
    "ClearMLLoggerHook": "ClearMLVisBackend",
    "DvcliveLoggerHook": "DVCLiveVisBackend",
}
_ACCURACIES = {"top1_acc": "acc/top1", "top5_acc": "acc/top5", "mean_class_accuracy": "acc/mean1"}
_LOADING = {
    "samples_per_gpu": "batch_size",
    "videos_per_gpu": "batch_size",
    "workers_per_gpu": "num_workers",
}
_SPLITS = ("train", "val", "test")
Translation = Callable[[Any, Section], Changes]  # of a value as mmcv took it


def old_key(name: str, value: object, config: Section) -> tuple[str, Changes] | None:
    """Return the key of mmengine for one of mmcv 1.x, and what to write; None if it is none.

    Args:
        name: the key, at the top of a config.
        value: what it was set to.
        config: the sections that are read, by name.

    """
    found = _KEYS.get(name)
    if found is None:
        return None
    place, translate = found
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]  # a comma at the end of the line
    try:
        changes = translate(value, config)
    except (AttributeError, KeyError, TypeError, ValueError):
        changes = {}  # not as mmcv took it: the place still helps
    return place, changes


def _to(place: str) -> Translation:
    """Return a translation that moves the value as it is."""

    def move(value: object, config: Section) -> Changes:
        return replaced(place, value, at(config, place))

    return move


def _data(value: Section, config: Section) -> Changes:
    changes: Changes = {}
    for old, new in _LOADING.items():
        if old in value:
            changes[f"train_dataloader.{new}"] = value[old]
        for split in _SPLITS:
            if old in (own := value.get(f"{split}_dataloader") or {}):
                changes[f"{split}_dataloader.{new}"] = own[old]
    for split in _SPLITS:
        for key, one in (value.get(split) or {}).items():
            place = f"{split}_dataloader.dataset.{key}"
            if key in ("img_prefix", "data_prefix") and isinstance(one, str):
                place = f"{split}_dataloader.dataset.data_prefix.img"
            changes |= replaced(place, one, at(config, place))
    return changes


def _optimizer_config(value: Section, config: Section) -> Changes:
    changes: Changes = {}
    if "grad_clip" in value:
        changes |= _clip(value["grad_clip"], config)
    if "cumulative_iters" in value:
        changes["optim_wrapper.accumulative_counts"] = value["cumulative_iters"]
    if value.get("type") == "Fp16OptimizerHook" or "loss_scale" in value:
        changes |= _half(value, config)
    return changes


def _clip(value: object, config: Section) -> Changes:
    if value is None and at(config, "optim_wrapper.clip_grad") is None:
        return {}
    return replaced("optim_wrapper.clip_grad", value, at(config, "optim_wrapper.clip_grad"))


def _half(value: Section, config: Section) -> Changes:
    scale = value.get("loss_scale", "dynamic")
    return {"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.loss_scale": scale}


def _runner(value: Section, config: Section) -> Changes:
    if "max_iters" in value:
        most = value["max_iters"]
        return {"train_cfg": {"_delete_": True, "type": "IterBasedTrainLoop", "max_iters": most}}
    return {"train_cfg.max_epochs": value["max_epochs"]}


def _checkpoint_config(value: Section, config: Section) -> Changes:
    kept = {"interval", "by_epoch", "save_optimizer", "out_dir", "max_keep_ckpts", "save_last"}
    return {
        f"default_hooks.checkpoint.{key}": one
        for key, one in value.items()
        if key in kept and not (key == "out_dir" and one is None)
    }


def _log_config(value: Section, config: Section) -> Changes:
    changes: Changes = {}
    if "interval" in value:
        changes["default_hooks.logger.interval"] = value["interval"]
    kinds = [_BACKENDS.get(hook["type"]) for hook in value.get("hooks", ())]
    if kinds and None not in kinds:
        changes["visualizer.vis_backends"] = [{"type": kind} for kind in kinds]
    return changes


def _evaluation(value: Section, config: Section) -> Changes:
    changes: Changes = {}
    for old, new in (("interval", "val_interval"), ("start", "val_begin")):
        if value.get(old) is not None:
            changes[f"train_cfg.{new}"] = value[old]
    best = value.get("save_best", value.get("key_indicator"))
    if best is not None:
        changes["default_hooks.checkpoint.save_best"] = _best(best, config)
    if value.get("rule") is not None:
        changes["default_hooks.checkpoint.rule"] = value["rule"]
    return changes


def _best(name: object, config: Section) -> object:
    """Return today's name of the metric that chose the best checkpoint."""
    evaluators = config.get("val_evaluator")
    every = evaluators if isinstance(evaluators, Sequence) else [evaluators]
    kinds = {one.get("type") for one in every if isinstance(one, Mapping)}
    if "CocoMetric" in kinds and isinstance(name, str) and name[:2] in ("AP", "AR"):
        return f"coco/{name}"
    if name == "mAP" and "CocoMetric" in kinds:
        return "coco/AP"
    return _ACCURACIES.get(name, name) if isinstance(name, str) else name


def _workflow(value: Iterable[tuple[str, int]], config: Section) -> Changes:
    phases = dict(value)
    return {"train_cfg.val_interval": phases.get("train", 1)} if "val" in phases else {}


def _data_cfg(value: Section, config: Section) -> Changes:
    changes: Changes = {}
    for old, new in (("image_size", "input_size"), ("heatmap_size", "heatmap_size")):
        if old in value:
            places = [place for place, _ in walk(config) if place.rpartition(".")[2] == new]
            changes |= dict.fromkeys(places, tuple(value[old]))
    return changes


def _channel_cfg(value: Section, config: Section) -> Changes:
    count = value.get("num_output_channels", value.get("dataset_joints"))
    return {} if count is None else {"model.head.num_keypoints": count}


def _dist_params(value: Section, config: Section) -> Changes:
    return {f"env_cfg.dist_cfg.{key}": one for key, one in value.items()}


# --- the learning rate -------------------------------------------------------------


def _lr_config(value: Section, config: Section) -> Changes:
    """Return the schedulers; of warm-up and decay, what is not named stays."""
    given = config.get("param_scheduler") or []
    current = [dict(one) for one in (given if isinstance(given, Sequence) else [given])]
    warm = [one for one in current if one.get("type") in ("LinearLR", "ConstantLR")]
    decay = [one for one in current if one not in warm]
    return {"param_scheduler": [*_warm_up(value, warm), *_decay(value, decay, config)]}


def _warm_up(value: Section, current: list[Changes]) -> list[Changes]:
    if not any(key.startswith("warmup") for key in value):
        return current
    if value.get("warmup", "linear") is None:
        return []
    before = current[0] if current else {"start_factor": 0.1, "by_epoch": False, "end": 500}
    constant = value.get("warmup") == "constant"
    ratio = value.get("warmup_ratio", before.get("start_factor", before.get("factor", 0.1)))
    usual = before["by_epoch"] and "warmup_iters" not in value
    by_epoch = bool(value.get("warmup_by_epoch", usual))
    return [
        {
            "type": "ConstantLR" if constant else "LinearLR",
            "factor" if constant else "start_factor": ratio,
            "by_epoch": by_epoch,
            "begin": 0,
            "end": value.get("warmup_iters", before["end"]),
        }
    ]


def _decay(value: Section, current: list[Changes], config: Section) -> list[Changes]:
    policy = value.get("policy")
    by_epoch = bool(value.get("by_epoch", True))
    most = at(config, f"train_cfg.max_{'epochs' if by_epoch else 'iters'}")
    if policy is None and "step" not in value:
        return [{**one, **_named(value, one)} for one in current]
    policy = str(policy or "step").lower()
    if policy == "step":
        return [_steps(value, by_epoch)]
    if policy == "fixed":
        return []
    kinds: dict[str, Changes] = {
        "cosineannealing": {"type": "CosineAnnealingLR", "T_max": most, **_least(value)},
        "poly": {"type": "PolyLR", "power": value.get("power", 1.0), **_least(value)},
        "exp": {"type": "ExponentialLR", "gamma": value.get("gamma", 0.9)},
    }
    return [{**kinds[policy], "by_epoch": by_epoch, "begin": 0, "end": most}]


def _steps(value: Section, by_epoch: bool) -> Changes:
    step, gamma = value["step"], value.get("gamma", 0.1)
    if isinstance(step, int):
        return {"type": "StepLR", "step_size": step, "gamma": gamma, "by_epoch": by_epoch}
    return {"type": "MultiStepLR", "milestones": list(step), "gamma": gamma, "by_epoch": by_epoch}


def _named(value: Section, scheduler: Section) -> Changes:
    return {key: value[key] for key in ("gamma", "power") if key in value and key in scheduler}


def _least(value: Section) -> Changes:
    if "min_lr_ratio" in value:
        return {"eta_min_ratio": value["min_lr_ratio"]}
    return {"eta_min": value.get("min_lr", 0.0)}


# Keys whose value moves as it is.
_MOVED = {
    "total_epochs": "train_cfg.max_epochs",
    "max_epochs": "train_cfg.max_epochs",
    "optimizer": "optim_wrapper.optimizer",
    "samples_per_gpu": "train_dataloader.batch_size",
    "workers_per_gpu": "train_dataloader.num_workers",
    "cudnn_benchmark": "env_cfg.cudnn_benchmark",
    "mp_start_method": "env_cfg.mp_cfg.mp_start_method",
    "opencv_num_threads": "env_cfg.mp_cfg.opencv_num_threads",
    "seed": "randomness.seed",
    "deterministic": "randomness.deterministic",
    "auto_resume": "resume",
}
_KEYS: dict[str, tuple[str, Translation]] = {
    **{key: (place, _to(place)) for key, place in _MOVED.items()},
    "total_iters": ("train_cfg.max_iters", lambda v, c: _runner({"max_iters": v}, c)),
    "runner": ("train_cfg", _runner),
    "lr_config": ("param_scheduler", _lr_config),
    "optimizer_config": ("optim_wrapper.clip_grad", _optimizer_config),
    "grad_clip": ("optim_wrapper.clip_grad", _clip),
    "evaluation": (
        "train_cfg.val_interval and default_hooks.checkpoint.save_best",
        _evaluation,
    ),
    "checkpoint_config": ("default_hooks.checkpoint", _checkpoint_config),
    "log_config": ("default_hooks.logger and visualizer.vis_backends", _log_config),
    "data": ("train_dataloader, val_dataloader and test_dataloader", _data),
    "workflow": ("train_cfg.val_interval", _workflow),
    "dist_params": ("env_cfg.dist_cfg", _dist_params),
    "exp_name": ("work_dir", lambda v, c: {"work_dir": f"work_dirs/{v}"}),
    "gpu_ids": ("CUDA_VISIBLE_DEVICES in the environment", lambda v, c: {}),
    "device": ("CUDA_VISIBLE_DEVICES in the environment", lambda v, c: {}),
    "gpus": ("torchrun --nproc_per_node", lambda v, c: {}),
    "channel_cfg": ("model.head.num_keypoints", _channel_cfg),
    "data_cfg": ("input_size and heatmap_size of the codec and the pipelines", _data_cfg),
}
