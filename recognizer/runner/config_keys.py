"""Keys inside a training config that nothing reads, found before anything is built.

Most classes refuse what they do not take, but minutes or epochs later, in messages of their own;
plain sections such as ``env_cfg`` are read key by key and refuse nothing.
"""

import copy
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence

from mmengine.runner.loops import EpochBasedTrainLoop, IterBasedTrainLoop, TestLoop, ValLoop
from torch import distributed
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from recognizer.runner.config_lines import ConfigProblem
from recognizer.runner.config_places import RENAMED, Advice, accepted, advise, at, class_of, walk
from recognizer.runner.engine import Changes, Runner, Section

_OURS = {"early_stopping": "EarlyStoppingHook", "lr_scheduler": "LrSchedulerHook"}
_PARAMWISE, _CONSTRUCTOR = "optim_wrapper.paramwise_cfg", "DefaultOptimWrapperConstructor"
# The arguments by which two hooks of one class differ.
_APART = ("monitor", "out_dir", "by_epoch", "interval")
_HOOKS = ("runtime_info", "timer", "logger", "param_scheduler", "checkpoint", "sampler_seed")
_TEST_CFG = {
    "flip_test",
    "flip_mode",
    "shift_heatmap",
    "shift_coords",
    "output_heatmaps",
    "align_corners",
    "blur_kernel_size",
    "input_size",
    "max_instances",
    "max_num_people",
    "multiscale_test",
    "nms_dist_thr",
    "nms_joints_thr",
    "output_heatmap",
    "output_keypoint_indices",
    "restore_heatmap_size",
    "score_threshold",
    "score_thr",
    "nms_thr",
    "nms_pre",
}


def _arguments(*calls: Callable[..., object]) -> set[str]:
    return {name for call in calls for name in inspect.signature(call).parameters}


# What is read of sections that are no classes.
_SECTIONS: dict[str, set[str]] = {
    "env_cfg": {"cudnn_benchmark", "mp_cfg", "dist_cfg", "resource_limit"},
    "env_cfg.mp_cfg": {"mp_start_method", "opencv_num_threads"},
    "env_cfg.dist_cfg": {"backend", "init_backend", *_arguments(distributed.init_process_group)},
    "auto_scale_lr": {"enable", "base_batch_size"},
    "randomness": _arguments(Runner.set_randomness) - {"self"},
    "custom_imports": {"imports", "allow_failed_imports"},
    "fp16": {"loss_scale"},
    "recognizer": {"service", "classes", "threshold", "window_s"},
    "train_cfg": {
        "by_epoch",
        *(accepted(EpochBasedTrainLoop) or ()),
        *(accepted(IterBasedTrainLoop) or ()),
    },
    "val_cfg": set(accepted(ValLoop) or ()),
    "test_cfg": set(accepted(TestLoop) or ()),
    "optim_wrapper.clip_grad": {"type", *_arguments(clip_grad_norm_, clip_grad_value_)},
    "optim_wrapper.paramwise_cfg": {
        "custom_keys",
        "bias_lr_mult",
        "bias_decay_mult",
        "norm_decay_mult",
        "dwconv_decay_mult",
        "flat_decay_mult",
        "bypass_duplicate",
        "dcn_offset_lr_mult",
    },
    "optim_wrapper.paramwise_cfg.custom_keys.*": {"lr_mult", "decay_mult"},
}
# The same of sections inside classes, by the class.
_INSIDE: dict[tuple[str, str], set[str]] = {
    ("TopdownPoseEstimator", "test_cfg"): _TEST_CFG,
    ("TopdownPoseEstimator", "train_cfg"): {"compute_acc"},
    ("RecognizerGCN", "test_cfg"): {"max_testing_views", "num_segs", "feature_extraction"},
    ("AccMetric", "metric_options"): {
        "top_k_accuracy",
        "mean_class_accuracy",
        "mean_average_precision",
        "mmit_mean_average_precision",
    },
    ("CocoDataset", "data_prefix"): {"img"},
}


def unknown_keys(
    config: Section, ancestors: Callable[[], Sequence[Section]]
) -> list[ConfigProblem]:
    """Return the keys that nothing reads, each with where it belongs.

    Args:
        config: the sections that are read, by name.
        ancestors: gives the configs that this one was made of, the nearest first.

    """
    found, wrong = _hooks(config), []
    for place, section in walk(config):
        if not isinstance(section, Mapping):
            continue
        known, reader = _known(place, section, config)
        if known is None:
            continue
        unknown = [key for key in section if key not in known]
        left, rest = _left_over(place, section, unknown, ancestors)
        found += left
        wrong += [(place, key, reader, sorted(known - {"type", "_scope_"})) for key in rest]
    clean = _without(config, [f"{place}.{key}" for place, key, *_ in wrong])
    for place, key, reader, others in wrong:
        advice = advise(key, at(config, f"{place}.{key}"), clean, place, others)
        found.append(_fault(place, key, reader, advice))
    return found


def _without(config: Section, places: Sequence[str]) -> Changes:
    """Return a copy of a config that does not have what is at the places."""
    clean = copy.deepcopy(dict(config))
    for place in places:
        above, _, key = place.rpartition(".")
        at(clean, above).pop(key, None)
    return clean


def _fault(place: str, key: str, reader: str, advice: Advice) -> ConfigProblem:
    message = f"{reader} takes no {key}"
    if advice.places and key in RENAMED:
        message += f"; mmengine reads {advice.places} in its place"
    elif advice.places:
        message += f"; did you mean {advice.places}"
    return ConfigProblem(f"{place}.{key}", message, advice.changes)


def _known(
    place: str, section: Section, config: Section
) -> tuple[set[str] | frozenset[str] | None, str]:
    """Return the keys that a section may have, None for any, and the name of their reader."""
    above, _, last = place.rpartition(".")
    holder = at(config, above).get("type") if isinstance(at(config, above), Mapping) else None
    if isinstance(holder, str) and (holder, last) in _INSIDE:
        return _INSIDE[holder, last], place
    kind = class_of(section.get("type"))
    if kind is not None:
        return accepted(kind), kind.__name__
    if last.endswith("_dataloader") and not above:
        return accepted(DataLoader), "DataLoader"
    if place.startswith(_PARAMWISE) and config["optim_wrapper"].get("constructor") not in (
        None,
        _CONSTRUCTOR,
    ):  # which reads keys of its own
        return None, place
    return _SECTIONS.get(place) or _SECTIONS.get(f"{above}.*"), place


def _left_over(
    place: str,
    section: Section,
    unknown: list[str],
    ancestors: Callable[[], Sequence[Section]],
) -> tuple[list[ConfigProblem], list[str]]:
    """Split off the keys that a section of another type, now replaced, left behind."""
    for before in ancestors() if unknown else ():
        old = at(before, place)
        if not isinstance(old, Mapping) or old.get("type") == section.get("type"):
            continue
        left = [key for key in unknown if key in old and old[key] == section[key]]
        if left:
            kept = {key: value for key, value in section.items() if key not in unknown}
            message = (
                f"{section.get('type')} takes no {', '.join(left)}, which stayed of the base's "
                f"{old.get('type', place)}; a section of another type needs _delete_=True"
            )
            rest = [key for key in unknown if key not in left]
            return [ConfigProblem(place, message, {place: {"_delete_": True, **kept}})], rest
    return [], unknown


def _hooks(config: Section) -> list[ConfigProblem]:
    """Return the faults of default_hooks, whose names may be any and add a hook each."""
    default, custom = config.get("default_hooks") or {}, config.get("custom_hooks") or []
    if not isinstance(default, Mapping):
        return []
    found: list[ConfigProblem] = []
    seen: dict[str, list[str]] = {}
    places = [(f"default_hooks.{key}", hook) for key, hook in default.items()]
    places += [(f"custom_hooks.{index}", hook) for index, hook in enumerate(custom)]
    for place, hook in places:
        kind = hook.get("type") if isinstance(hook, Mapping) else None
        if isinstance(hook, Mapping) and kind is None:
            found.append(_untyped(place, hook))
        elif isinstance(kind, str):
            same = [old for old in seen.get(kind, []) if not _differs(hook, at(config, old))]
            found += [_second(place, hook, old) for old in same[:1]]
            seen.setdefault(kind, []).append(place)
    return found


def _differs(hook: Section, other: Section) -> bool:
    """Return whether a hook differs on purpose from the first of its class."""
    return any(key in hook and hook[key] != other.get(key) for key in _APART)


def _second(place: str, hook: Section, first: str) -> ConfigProblem:
    message = f"a second {hook['type']} beside {first}; change that one"
    own = {key: value for key, value in hook.items() if key != "type"}
    return ConfigProblem(place, message, {f"{first}.{key}": value for key, value in own.items()})


def _untyped(place: str, hook: Section) -> ConfigProblem:
    name = place.rpartition(".")[2]
    if name in _OURS:
        return ConfigProblem(place, "a hook needs its type", {f"{place}.type": _OURS[name]})
    close = difflib.get_close_matches(name, _HOOKS, 1, 0.75)
    if not close:
        return ConfigProblem(place, f"a hook without a type, and none of {', '.join(_HOOKS)}")
    right = f"default_hooks.{close[0]}"
    changes = {f"{right}.{key}": value for key, value in hook.items()}
    return ConfigProblem(place, f"a hook without a type; did you mean {right}", changes)
