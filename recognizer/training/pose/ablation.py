"""Mode train.ablation: several configs of a pose network, trained alike and compared.

Every (config, seed) is one training. The seed decides order, batches and augmentation, whatever
the config; the batches are recorded and compared. Finished trainings are kept.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recognizer.command import next_command
from recognizer.config.action import as_list
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.installation import PROJECT
from recognizer.runner.checkpoint_search import best_checkpoint
from recognizer.runs.manifest import exclusive
from recognizer.runs.progress import OnProgress, ProgressFactory
from recognizer.storage.artifacts import sha256_file, short_digest
from recognizer.training.classifier.artifacts import existing_config
from recognizer.training.pose.train import (  # first: it sets up threads before torch loads
    CONFIGS,
    image_progress,
    one_process,
)

if TYPE_CHECKING:
    from recognizer.runner.engine import Config as PoseConfig
    from recognizer.training.pose.ablation_report import AblationSetup
    from recognizer.training.pose.ablation_run import AblationTrial, TrialResult

logger = logging.getLogger(__name__)

EXIT_SOME_FAILED = 3
# Keys that must be equal in all configs; the others are what an ablation compares.
_ALIKE = (
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "val_evaluator",
    "test_evaluator",
    "train_cfg",
    "param_scheduler",
    "optim_wrapper",
    "auto_scale_lr",
    "load_from",
)
_MISSING = object()


def ablation(config: Config, progress: ProgressFactory) -> int:
    """Train and measure every config with every seed and return the exit code."""
    one_process("train.ablation")
    from recognizer.training.pose.ablation_report import write_report
    from recognizer.training.pose.ablation_run import MISSING, read_result, run_trial

    with image_progress(progress) as on_image:
        setup, runs = _setup(config, on_image)
    with exclusive(setup.folder):
        results = {run: read_result(run) or MISSING for run in runs}
        finished = sum(result.state == "done" for result in results.values())
        if finished:
            logger.info("%d of %d trainings are already finished", finished, len(runs))
        for number, run in enumerate(runs, 1):
            if results[run].state != "done":
                title = f"{run.config}, seed {run.seed} ({number} of {len(runs)})"
                logger.info("%s: %s", title, run.folder)
                results[run] = run_trial(run, progress, title)
                write_report(setup, results)  # complete so far, should the run be stopped
        text = write_report(setup, results)
    logger.info("%s", text)
    logger.info("table and curves are in %s", setup.folder)
    failed = [run for run, result in results.items() if result.state != "done"]
    if failed:
        logger.error(
            "%d of %d trainings failed, such as %s; the same command tries them again",
            len(failed),
            len(runs),
            failed[0].folder,
        )
    if len(failed) < len(runs):
        logger.info("next, the best of them again: %s", _next(config, setup, results))
    return EXIT_SOME_FAILED if failed else 0


def _next(
    config: Config, setup: "AblationSetup", results: Mapping["AblationTrial", "TrialResult"]
) -> str:
    """Return the command that measures the best training's checkpoint."""
    from recognizer.training.pose.ablation_report import ap_of

    run = max(
        (r for r in results if results[r].state == "done"), key=lambda r: ap_of(results[r]) or 0.0
    )
    path = setup.configs[run.config]
    changes = {
        "train.config_file": [path],
        "train.cfg_options": options_for({run.config, path.stem}, setup.options),
        "test.checkpoint": [best_checkpoint(run.folder)],
    }
    return next_command(config, "test.pose", {k: v for k, v in changes.items() if v})


# --- configs and trials ------------------------------------------------------------


def _setup(config: Config, on_image: OnProgress) -> tuple["AblationSetup", list["AblationTrial"]]:
    """Return the comparison and its trials: all configs with the first seed, then the next."""
    from recognizer.training.pose.ablation_report import AblationSetup
    from recognizer.training.pose.ablation_run import AblationTrial

    folder = config.ablation.output_dir or PROJECT / "work_dirs" / "ablation"
    paths, seeds = _named(config)
    cfgs, options = _configs(config, paths)
    metadata = {name: _metadata(cfg, on_image) for name, cfg in cfgs.items()}
    first = next(iter(cfgs.values()))
    differences = {name: list(_differences(first, cfg)) for name, cfg in cfgs.items()}
    for name, texts in differences.items():
        if texts:
            logger.warning(
                "%s is not like the first config in data or schedule: %s", name, "; ".join(texts)
            )
    runs = []
    for seed in seeds:
        for name, cfg in cfgs.items():
            key = short_digest({"config": cfg.pretty_text, "seed": seed, **metadata[name]["files"]})
            runs.append(AblationTrial(name, seed, folder / f"{name}-seed{seed}-{key}", key, cfg))
    setup = AblationSetup(
        folder=folder,
        configs=dict(zip(cfgs, paths, strict=True)),
        seeds=seeds,
        options=options,
        data_root=config.train.data_root,
        metadata=metadata,
        differences=differences,
    )
    return setup, runs


def _named(config: Config) -> tuple[list[Path], tuple[int, ...]]:
    """Return configs and seeds, each once."""
    paths = [existing_config(path) for path in as_list(config.train.config_file)]
    seeds = tuple(config.ablation.seeds)
    section = config.train
    if not paths:
        raise ConfigError(
            "train.config_file: expected mmpose configs to compare (--train-config A B C), got "
            f"none; look in {CONFIGS}"
        )
    if len(set(seeds)) != len(seeds):
        raise ConfigError(f"ablation.seeds: expected different seeds, got {list(seeds)}")
    resolved = [path.resolve() for path in paths]
    for path in resolved:
        if resolved.count(path) > 1:
            raise ConfigError(f"train.config_file: {path} is named twice")
    for key in ("dataset_dir", "work_dir"):
        if getattr(section, key) is not None:
            raise ConfigError(
                f"train.{key}: is not for an ablation; set train.data_root (COCO-format data) and "
                "ablation.output_dir (where everything goes)"
            )
    return paths, seeds


def _configs(
    config: Config, paths: Sequence[Path]
) -> tuple[dict[str, "PoseConfig"], tuple[str, ...]]:
    """Return the effective configs by name, and the options that changed them."""
    from recognizer.runner.train_config import TrainConfigError
    from recognizer.sdpose.evaluation import count_parameters
    from recognizer.sdpose.training import load_pose_config

    options, root = tuple(config.train.cfg_options), config.train.data_root
    cfgs: dict[str, PoseConfig] = {}
    try:
        names = [_name(load_pose_config(path, (), root), path) for path in paths]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(
                    f"exp_name: {name!r} names several of the configs; give each its own"
                )
        for option in options:
            _check_prefix(option, [*names, *(path.stem for path in paths)])
        for name, path in zip(names, paths, strict=True):
            cfg = load_pose_config(path, options_for({name, path.stem}, options), root)
            cfg.pop("work_dir", None)
            cfg.resume, cfg.resume_from = False, None
            count_parameters(cfg)  # better now than after hours
            cfgs[name] = cfg
    except (TrainConfigError, ValueError, FileNotFoundError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"train.config_file, train.cfg_options: {error}") from error
    return cfgs, options


def _name(cfg: "PoseConfig", path: Path) -> str:
    name = cfg.get("exp_name") or path.stem
    if not isinstance(name, str) or Path(name).name != name:
        raise ConfigError(f"{path}: exp_name: expected a plain name for a folder, got {name!r}")
    return name


def options_for(names: set[str], options: Sequence[str]) -> list[str]:
    """Return the options that apply to a config.

    ``key=value`` applies to all; ``name:key=value`` to the config of that exp_name or file.
    """
    chosen = []
    for option in options:
        prefix, bare = split_option(option)
        if not prefix or prefix in names:
            chosen.append(bare)
    return chosen


def split_option(option: str) -> tuple[str, str]:
    """Return the config's name, "" for all configs, and the option itself."""
    key, equals, value = option.partition("=")
    prefix, colon, bare_key = key.rpartition(":")
    return (prefix, f"{bare_key}{equals}{value}") if colon else ("", option)


def _check_prefix(option: str, names: Sequence[str]) -> None:
    prefix, _ = split_option(option)
    if prefix and prefix not in names:
        raise ConfigError(
            f"train.cfg_options: {option}: no config is called {prefix!r}; expected one of "
            f"{', '.join(dict.fromkeys(names))}"
        )


def _metadata(cfg: "PoseConfig", on_image: OnProgress) -> dict[str, Any]:
    """Check the data; return sizes of data and network, and digests of the files.

    Raises:
        FileNotFoundError, ValueError: as ``coco.validate_coco``.

    """
    from recognizer.runner.train_config import datasets
    from recognizer.sdpose.evaluation import count_parameters
    from recognizer.sdpose.training import annotations_of, validate_dataset

    metadata: dict[str, Any] = {"parameters": count_parameters(cfg), "files": {}}
    metadata["epochs"] = cfg.train_cfg.get("max_epochs")
    metadata["batch_size"] = cfg.train_dataloader.get("batch_size")
    splits = datasets(cfg)
    if missing := [split for split in ("train", "test") if split not in splits]:
        raise ConfigError(f"{cfg.filename}: expected a {missing[0]}_dataloader, got none")
    for split, dataset in splits.items():
        ann_file = annotations_of(dataset)
        summary = validate_dataset(dataset, on_image)
        digest = sha256_file(ann_file)
        metadata[split] = {
            "images": summary.images,
            "persons": summary.with_keypoints,
            "file": ann_file.name,
            "sha256": digest,
        }
        metadata["files"][split] = digest
    if cfg.get("load_from"):
        metadata["files"]["load_from"] = sha256_file(Path(cfg.load_from))
    return metadata


def _differences(first: "PoseConfig", other: "PoseConfig") -> Iterator[str]:
    """Yield the differences of a config to the first one in data and schedule."""
    one, two = (
        {k: v for name in _ALIKE for k, v in _flat(name, cfg.get(name))} for cfg in (first, other)
    )
    for key in dict.fromkeys([*one, *two]):
        before, after = one.get(key, _MISSING), two.get(key, _MISSING)
        if before != after:
            texts = ["none" if value is _MISSING else repr(value) for value in (before, after)]
            yield f"{key}: {texts[1]} instead of {texts[0]}"


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}", item)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _flat(f"{name}.{index}", item)
    elif value is not None:
        yield name, list(value) if isinstance(value, list | tuple) else value
