"""Part (a)'s table."""

from pathlib import Path
from typing import Any


def write(path: Path, values: dict[str, Any]) -> None:
    """Write a readable table of what part (a) has measured so far."""
    card = values.get("card", {})
    rows = [
        f"{card.get('name', '?')}, torch {card.get('torch', '?')}. Errors: root mean square of the "
        "difference from fp32 on the CPU, over the values' spread; weights from a seed. Keypoints: "
        "median and worst difference of a person's keypoint, which with such weights is of meaning "
        "in fp32 only.",
        "",
        "| network | variant | batch | features' error | worst output's error | keypoints, px | "
        "people | network, ms | pixels to poses, ms | peak, MiB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for key, value in values.items():
        name, _, variant = key.partition(", ")
        if variant and isinstance(value, dict):
            rows.append(f"| {name} | {variant} | " + " | ".join(_cells(value)) + " |")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _cells(value: dict[str, Any]) -> list[str]:
    if "error" in value:
        return [str(value["error"]).splitlines()[0][:80].replace("|", "/"), *[""] * 7]
    errors = dict(value["errors"])
    features, points = errors.pop("features", None), value.get("keypoints")
    return [
        str(value["batch"]),
        _number(features, ".1e"),
        _number(max(errors.values()) if errors else None, ".1e"),
        f"{_number(points['median_px'], '.2g')} / {_number(points['worst_px'], '.2g')}"
        if points
        else "",
        f"{points['found']} of {points['people']}" if points else "",
        _number(value["network_ms"], ".2f"),
        _number(value.get("poses_ms"), ".1f"),
        _number(value.get("peak_mib"), ".0f"),
    ]


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
