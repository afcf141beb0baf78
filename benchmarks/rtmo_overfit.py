"""Overfit RTMO-t to a few pictures: network, targets, losses, decoding and AP fit together.

    python -m benchmarks.rtmo_overfit --data /data/coco --pictures 4

The training is that of the config rtmo_t_overfit, on pictures with one to three large people, and
AP is measured on the same pictures. A number near 1 proves that the parts fit together, and nothing
about other pictures. The same command goes on where it was stopped.
"""

import argparse
import json
import logging
import os
from pathlib import Path
from typing import Any

from benchmarks._command import ASSETS, ROOT
from benchmarks._needs import need

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
CONFIG = ROOT / "configs/body_2d_keypoint/rtmo/coco/rtmo_t_overfit_256x256.py"
TARGET = 0.9
# At torch's own start the logits of the coordinates vary by about 50 along a keypoint's bins: one
# bin holds everything, and a few pictures give no gradient that would move it.
_START = 0.02
_MOST_PEOPLE, _LEAST_AREA = 3, 0.03  # people of a picture, and each one's part of its pixels


def write_part(data: Path, pictures: int, path: Path) -> int:
    """Write the annotations of the first pictures with few, large people; return how many people.

    Raises:
        ValueError: there are fewer such pictures.

    """
    content = json.loads((data / "annotations/person_keypoints_train2017.json").read_text())
    kept: list[dict[str, Any]] = []
    for image in content["images"]:
        people = [one for one in content["annotations"] if one["image_id"] == image["id"]]
        least = _LEAST_AREA * image["width"] * image["height"]
        large = all(
            one["area"] >= least and one["num_keypoints"] > 8 and not one["iscrowd"]
            for one in people
        )
        if large and 0 < len(people) <= _MOST_PEOPLE and len(kept) < pictures:
            kept.append(image)
    if len(kept) < pictures:
        raise ValueError(f"{data}: expected {pictures} pictures of large people, got {len(kept)}")
    ids = {image["id"] for image in kept}
    content["images"] = kept
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in ids]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return len(content["annotations"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ASSETS / "coco", help="COCO folder")
    parser.add_argument("--pictures", type=int, default=4, help="they are one batch")
    parser.add_argument("--epochs", type=int, default=400, help="each is one step")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "work_dirs" / "rtmo_t_overfit")
    options = parser.parse_args()
    need(files=[options.data])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    from recognizer.runner.engine import Hook, Runner
    from recognizer.sdpose.evaluation import quietly
    from recognizer.sdpose.training import load_pose_config, train
    from recognizer.training.pose.learning_curves import TABLE, CurvesHook, read_curve

    class FlatStartHook(Hook):
        """Let the coordinate heatmaps start flat."""

        def before_train(self, runner: Runner) -> None:
            """Scale the encodings of the coordinates down, unless the training resumes."""
            if runner.iter == 0:
                head: Any = runner.model.head
                for layer in (head.dcc.x_fc, head.dcc.y_fc):
                    for weights in layer.parameters():
                        weights.data.mul_(_START)

    part = (options.work_dir / "annotations.json").absolute()
    people = write_part(options.data, options.pictures, part)
    changes = [
        f"train_cfg.max_epochs={options.epochs}",
        f"train_cfg.val_interval={max(1, options.epochs // 10)}",
        f"param_scheduler.1.milestones=[{options.epochs * 2 // 3},{options.epochs * 9 // 10}]",
        f"param_scheduler.1.end={options.epochs}",
        f"train_dataloader.batch_size={options.pictures}",
        "train_dataloader.num_workers=0",
        "val_dataloader.num_workers=0",
        f"train_dataloader.dataset.ann_file={part}",
        f"val_dataloader.dataset.ann_file={part}",
    ]
    cfg = load_pose_config(CONFIG, changes, options.data.absolute())
    cfg.work_dir = str(options.work_dir.absolute())
    cfg.randomness = {"seed": 0}
    with quietly():
        checkpoint = train(cfg, resume=True, hooks=[CurvesHook(), FlatStartHook()])
    rows = read_curve(options.work_dir / TABLE)
    for row in rows:
        print(f"step {row['iteration']:.0f}: loss {row['loss']:.3f}, AP {row['coco/AP']:.3f}")
    best = max(row["coco/AP"] for row in rows)
    print(
        f"{people} people in {options.pictures} pictures, {rows[-1]['iteration']:.0f} steps: best "
        f"AP {best:.3f}, last {rows[-1]['coco/AP']:.3f} (target {TARGET}); best: {checkpoint}"
    )


if __name__ == "__main__":
    main()
