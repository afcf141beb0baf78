"""Where pickles and checkpoints stand that the config does not name."""

from pathlib import Path

from annotation.workspace import stage3_dir
from recognizer.config import Config
from recognizer.config_file import ConfigError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs" / "skeleton" / "stgcnpp"


def as_list(paths: list[Path] | Path) -> list[Path]:
    """Return the paths of a config key that takes one or several."""
    return [paths] if isinstance(paths, Path) else paths


def train_config(config: Config, service: str) -> Path:
    """Return the mmaction2 config: ``train.config_file``, or the one of the service."""
    usual = CONFIGS / f"stgcnpp_enhanced_{service}_detection_stable.py"
    return config.train.config_file or usual


def find_pickle(config: Config, service: str, split: str) -> Path:
    """Return a split's pickle in ``train.dataset_dir``, or in stage 3's folder.

    Raises:
        ConfigError: there is none; the message says where it was looked for.

    """
    folder = config.train.dataset_dir
    if folder is None:
        try:
            folder = stage3_dir(config)
        except (FileNotFoundError, ConfigError) as error:
            raise ConfigError(
                f"expected {split}.pkl of a finished stage 3, but {error}\nRun --mode "
                "annotation.pipeline, or --set train.dataset_dir=<folder with the pickles>"
            ) from error
    path = folder / f"{split}.pkl"
    if not path.is_file():
        raise ConfigError(
            f"expected {split}.pkl in {folder}, found none; run --mode annotation.pipeline, or "
            f"--set train.dataset_dir=<folder with the pickles> ({service})"
        )
    return path


def best_checkpoint(config: Config, service: str) -> Path:
    """Return the best checkpoint of the work_dir that training would use.

    Raises:
        ConfigError: there is none.

    """
    folder = config.train.work_dir or ROOT / "work_dirs" / train_config(config, service).stem
    found = sorted(folder.glob("best_*.pth"), key=lambda path: path.stat().st_mtime_ns)
    if not found:
        raise ConfigError(
            f"test.checkpoint: expected a best_*.pth in {folder}, found none; run --mode "
            f"train.{service} first, or name a checkpoint with --checkpoint"
        )
    return found[-1]
