"""Train a pose network or a classifier: ``python tools/train.py CONFIG``, as OpenMMLab's tool.

    python tools/train.py CONFIG --work-dir DIR --cfg-options train_cfg.max_epochs=50
    python tools/train.py CONFIG --resume                     # from the last checkpoint
    python tools/train.py CONFIG --resume-from FILE           # from any checkpoint
    tools/dist_train.sh CONFIG N

Several processes: torchrun or torch.distributed.launch with ``--launcher pytorch``.
"""

import sys

from entry import parser, run, setting


def main(argv: list[str] | None = None) -> int:
    """Hand the command line on to main.py's train.pose, train.fight or train.falldown."""
    made = parser("tools/train.py", "train by a config of mmpose or mmaction2")
    made.add_argument("--work-dir", metavar="DIR", help="checkpoints and logs")
    made.add_argument("--resume", nargs="?", const="auto", metavar="auto|FILE")
    made.add_argument("--resume-from", metavar="FILE", help="the same as --resume FILE")
    made.add_argument("--seed", type=int, help="of a config without randomness.seed")
    made.add_argument("--amp", action="store_true", help="train in mixed precision")
    made.add_argument("--auto-scale-lr", action="store_true", help="the rate for the batch size")
    arguments = made.parse_args(argv)
    if arguments.resume not in (None, "auto") and arguments.resume_from is not None:
        made.error("expected --resume FILE or --resume-from FILE, got both")
    extra = [*setting("train.work_dir", arguments.work_dir)]
    if arguments.seed is not None:
        extra += ["--set", f"train.seed={arguments.seed}"]
    source = arguments.resume_from or arguments.resume
    extra += [] if source is None else ["--resume", source]
    if arguments.amp:
        arguments.cfg_options.append("optim_wrapper.type=AmpOptimWrapper")
    if arguments.auto_scale_lr:
        arguments.cfg_options.append("auto_scale_lr.enable=True")
    return run(arguments, lambda kind: f"train.{kind}", extra)


if __name__ == "__main__":
    sys.exit(main())
