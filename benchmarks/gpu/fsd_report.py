"""The table and the curves of the distillation measurement."""

import math
from pathlib import Path
from typing import Any

from benchmarks.gpu.fsd_record import stuck

DETACHED = "teacher detached"  # ends the name of a kind
PANELS = (
    ("heatmap_loss", "heatmap loss (sum of 2 cycles)"),
    ("distillation", "distillation losses, summed"),
    ("max_token", "largest |token|"),
)
SCORES = (
    ("lspet_pck", "PCK@0.2 of the torso, LSPET val"),
    ("lspet_ap", "AP, LSPET val (12 points)"),
    ("coco_ap", "AP, COCO val (25 people)"),
)
LEAST_SCORE = 0.1  # top of a score's axis at least: below it all is noise
COLOURS = {
    "baseline": "black",
    "fsd": "tab:blue",
    "fsd_best": "tab:red",
    "fsd_dynamic": "tab:green",
    "maskedkd": "tab:purple",
}


def ran_away(record: dict[str, Any], name: str) -> int | None:
    """Return the first step at which distillation exceeds the heatmap loss, or is not a number."""
    for window in record["windows"]:
        values = window["runs"][name]
        distillation = values["vis_dist_loss"] + values["kpt_dist_loss"]
        if not distillation <= values["heatmap_loss"]:  # NaN too
            return int(window["step"])
    return None


def trainings(values: dict[str, Any]) -> dict[str, Any]:
    """Return the trainings among the results, by start and seed."""
    return {k: v for k, v in values.items() if isinstance(v, dict) and v.get("windows")}


def verdict(record: dict[str, Any]) -> str:
    """Return how many ran away, and whether anybody learnt anything."""
    names = record["names"]
    counts = []
    for words, group in (
        ("with detached teachers", [name for name in names if name.endswith(DETACHED)]),
        ("with gradient to the teacher", [name for name in names if not name.endswith(DETACHED)]),
    ):
        away = sum(ran_away(record, name) is not None for name in group)
        counts.append(f"{away} of {len(group)} {words}")
    empty = record["windows"][-1]["empty"]
    learnt = (
        "None has left the plateau of empty heatmaps, so none has learnt poses yet"
        if stuck(record["windows"])
        else "The best has left the plateau of empty heatmaps"
    )
    return f"Ran away: {', '.join(counts)}. {learnt} (loss of empty heatmaps {empty:.5f})."


def table(key: str, record: dict[str, Any]) -> list[str]:
    """Return the lines of a training's table."""
    last = record["evaluations"][-1]
    lines = [
        f"## Start: {key}",
        "",
        f"{record['steps']} steps of {record['batch']} people ({record['epochs']} epochs) in "
        f"{record['seconds']:.0f} s, all kinds in lock-step on the same batches: "
        f"{record['outcome']}. {verdict(record)}",
        "",
        "| kind | AP COCO | AP50 COCO | AP LSPET | PCK LSPET | heatmap loss first -> last | "
        "vis loss first -> last | kpt loss first -> last | largest token first -> last | "
        "ran away at step |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in record["names"]:
        score = last["runs"][name]
        begin, end = (record["windows"][i]["runs"][name] for i in (0, -1))
        moves = [
            f"{begin[item]:.2g} -> {end[item]:.2g}"
            for item in ("heatmap_loss", "vis_dist_loss", "kpt_dist_loss", "max_token")
        ]
        away = ran_away(record, name)
        cells = [
            name,
            *(f"{score[s]:.3f}" for s in ("coco_ap", "coco_ap50", "lspet_ap", "lspet_pck")),
            *moves,
            "no" if away is None else str(away),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def text(values: dict[str, Any]) -> str:
    """Return the whole report."""
    about, data = values["about"], values["about"]["data"]
    recipe = about["recipe"]
    lines = [
        "# Foreground self-distillation, SDPose-S-V1",
        "",
        f"{about['card']}, torch {about['torch']}. Adam {recipe['rate']:g}, beta2 "
        f"{recipe['beta2']:g}, warm-up {recipe['warmup']} steps (fsd_best twice as many, as its "
        f"config has it), {'bfloat16' if recipe['half'] else 'float32'}; x 0.1 at 2/3 and 13/15 of "
        "the time, dynamic weights grow from 1/6 to 1/2 of it, as in the configs' 300 epochs.",
        "",
        f"Trained on {data['lspet_train']} people of LSPET (12 points) and {data['coco_train']} of "
        f"COCO; {data['face_points']} face points of LSPET by PP-TinyPose at score >= "
        f"{data['sure']} ({data['face_sure']:.0%} of all). PP-TinyPose itself on the 12 true "
        f"points: PCK {data['teacher_pck_train']:.3f} (train; where as sure: "
        f"{data['teacher_pck_train_where_sure']:.3f}), {data['teacher_pck_val']:.3f} (val). "
        "PCK@0.2 of the torso, left shoulder to right hip. AP with true boxes and flip test.",
        "",
        "Teacher detached: that of the visual tokens, in fsd_best of the keypoint tokens too. "
        "Gradient to teacher: to both, as the shipped configs have it; baseline: SDPose's own "
        "loss, gradient to both. Ran away: the distillation losses exceed the heatmap loss.",
        "",
        "What this cannot say: batches and steps are few beside the configs' 512 people and 300 "
        "epochs of COCO, one seed ranks nothing, and what has not run away so far may do so later. "
        "LSPET's pictures are for research only: they are used for this measurement alone, and no "
        "weights are kept.",
        "",
    ]
    if "step_ms" in values:
        step = values["step_ms"]
        lines += [
            f"A step takes {step['together']} ms for {step['runs']} kinds at once; the first "
            f"alone {step['eager']} ms"
            + (f", as a CUDA graph {step['graph']} ms" if "graph" in step else "")
            + ".",
            "",
        ]
    if "note" in about:
        lines += [about["note"], ""]
    for key, record in trainings(values).items():
        lines += table(key, record)
    lines += [f"- fault: {each}" for each in values.get("faults", [])]
    return "\n".join(lines) + "\n"


def write(folder: Path, values: dict[str, Any], *, curves: bool) -> None:
    """Write fsd.md and, where asked for, a picture of curves for each training."""
    (folder / "fsd.md").write_text(text(values), encoding="utf-8")
    if not curves:
        return
    for number, (key, record) in enumerate(trainings(values).items()):
        name = "fsd_curves.png" if not number else f"fsd_curves_{number + 1}.png"
        draw(folder / name, key, record)


def draw(file: Path, title: str, record: dict[str, Any]) -> None:
    """Draw the curves of losses, tokens and scores by step."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(16, 9), layout="constrained")
    for name in record["names"]:
        style = {
            "color": COLOURS[name.split(",")[0]],
            "lw": 1.3,
            "label": name,
            "ls": "--" if name.endswith(DETACHED) else "-",
        }
        for axis, (item, _) in zip(axes[0], PANELS, strict=True):
            points = [(w["step"], value_of(w["runs"][name], item)) for w in record["windows"]]
            axis.plot(*zip(*points, strict=True), **style)
        for axis, (item, _) in zip(axes[1], SCORES, strict=True):
            points = [(e["step"], e["runs"][name][item]) for e in record["evaluations"]]
            axis.plot(*zip(*points, strict=True), marker=".", **style)
    windows = record["windows"]
    axes[0, 0].plot(
        [w["step"] for w in windows],
        [w["empty"] for w in windows],
        color="grey",
        ls=":",
        label="empty heatmaps",
    )
    for axis, (_, label) in zip(axes.flat, PANELS + SCORES, strict=True):
        axis.set(xlabel="step", ylabel=label)
        axis.grid(alpha=0.3)
    for axis in axes[0]:
        axis.set_yscale("log")
    for axis in axes[1]:
        axis.set_ylim(0, max(LEAST_SCORE, 1.05 * axis.get_ylim()[1]))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.suptitle(f"SDPose-S-V1, start: {title}, {record['outcome']}")
    figure.savefig(file, dpi=90)
    pyplot.close(figure)


def value_of(values: dict[str, float], item: str) -> float:
    """Return a window's value; losses of 0 and what is not finite leave a gap."""
    found = (
        values["vis_dist_loss"] + values["kpt_dist_loss"]
        if item == "distillation"
        else values[item]
    )
    return found if math.isfinite(found) and found > 0 else math.nan
