"""Table and curves of the small network's training."""

from pathlib import Path
from typing import Any

import torch


def card(device: str) -> str:
    """Return the name of what computes."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"


def write_report(out: Path, name: str, values: dict[str, Any], device: str) -> None:
    """Write ``<name>.md`` and ``<name>.png`` from a training's results."""
    curve = values["curve"]
    tests = [key for key, value in curve[-1].items() if isinstance(value, dict) and key != "losses"]
    lines = [f"# The small network, trained on {card(device)}", ""]
    lines += [
        f"Training step ({key}): {value} ms"
        if isinstance(value, float)
        else f"Training step ({key}): {value}"
        for key, value in values.get("step_ms", {}).items()
    ]
    if "peak_gib" in values:
        lines += [f"Peak memory: {values['peak_gib']} GiB"]
    names = " | ".join(f"{test}: AP / found" for test in tests)
    lines += ["", f"| part of the training | steps | {names} |", "|---" * (2 + len(tests)) + "|"]
    for row in curve:
        cells = [_cell(row.get(test, {})) for test in tests]
        lines.append(f"| {row['progress']:.2f} | {row['steps']} | " + " | ".join(cells) + " |")
    lines += ["", "AP: COCO keypoints, 0.50 to 0.95; found: people with a box of score >= 0.3.", ""]
    (out / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")
    _draw(out / f"{name}.png", curve, tests)


def _cell(row: dict[str, Any]) -> str:
    if "AP" not in row:
        return "failed" if "error" in row else "-"
    return f"{row['AP']:.3f} / {row['found']:.2f}"


def _draw(path: Path, curve: list[dict[str, Any]], tests: list[str]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    steps = [row["steps"] for row in curve]
    for test in tests:
        left.plot(steps, [row.get(test, {}).get("AP") for row in curve], "o-", label=test)
    for loss in curve[-1]["losses"]:
        right.plot(steps, [row["losses"].get(loss) for row in curve], "o-", label=loss)
    for axes, title in ((left, "keypoint AP"), (right, "losses")):
        axes.set_title(title)
        axes.set_xlabel("steps")
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
