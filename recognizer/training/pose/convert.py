"""Mode convert.sdpose: convert a published SDPose checkpoint."""

import contextlib
import logging

from recognizer.command import next_command
from recognizer.config.file import ConfigError
from recognizer.config.schema import Config
from recognizer.installation import FILES
from recognizer.runs.progress import ProgressFactory
from recognizer.storage.artifacts import SCRATCH_FOLDER

logger = logging.getLogger(__name__)

_CONFIGS = "configs/body_2d_keypoint/sdpose/coco/sdpose_{}_stemnet_coco_256x192.py"


def convert(config: Config, progress: ProgressFactory) -> int:
    """Write ``convert.out`` from ``convert.source``, every key mapped (``--mode convert.sdpose``).

    Raises:
        ConfigError: no source or no out is named, or there is something at out already.
        FileNotFoundError, ArtifactError, ValueError: not a published checkpoint;
            nothing is written.

    """
    from recognizer.runner.checkpoints import load_checkpoint
    from recognizer.sdpose.convert import convert_file

    source, out = config.convert.source, config.convert.out
    if source is None or out is None:
        missing = "source" if source is None else "out"
        raise ConfigError(
            f"convert.{missing}: expected a file, got none; --mode convert.sdpose "
            "--source <published.pth> --out <new.pth>"
        )
    if out.exists():
        raise ConfigError(
            f"convert.out: {out} is already there and is never overwritten; choose another name "
            "(--out), or delete it first"
        )
    variant = convert_file(source, out)
    with contextlib.suppress(OSError):  # another file is being written there
        (out.parent / SCRATCH_FOLDER).rmdir()
    weights = load_checkpoint(out)["state_dict"]
    numbers = sum(tensor.numel() for tensor in weights.values())
    logger.info(
        "%s: SDPose-%s, %d tensors with %s numbers, every key mapped, written to %s",
        source,
        variant.upper().replace("_", "-"),
        len(weights),
        f"{numbers:,}",
        out,
    )
    changes = {
        "train.config_file": [FILES / _CONFIGS.format(variant)],
        "train.data_root": "<COCO folder>",
    }
    test = next_command(config, "test.pose", {**changes, "test.checkpoint": [out]})
    logger.info("to test it: %s", test)
    start = next_command(
        config, "train.pose", {**changes, "train.cfg_options": [f"load_from={out}"]}
    )
    logger.info("next, a training that starts from it: %s", start)
    return 0
