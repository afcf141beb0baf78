"""One page of everything a run has measured, and of what it has not."""

import json
from pathlib import Path
from typing import Any

NAME = "summary.md"
CARD = "card.json"
ENDS = "ends.json"
"""How each part ended the last time it ran."""
_CARD_ROWS = (
    ("memory_gib", "memory, GiB"),
    ("driver", "driver"),
    ("torch", "torch"),
    ("cuda", "CUDA"),
    ("cudnn", "cuDNN"),
    ("python", "Python"),
    ("bf16_tflops", "bf16 matmul, TFLOP/s"),
    ("fp16_tflops", "fp16 matmul, TFLOP/s"),
    ("tf32_tflops", "tf32 matmul, TFLOP/s"),
    ("fp32_tflops", "fp32 matmul, TFLOP/s"),
    ("copy_tbps", "copy, read and written, TB/s"),
)


def read(path: Path) -> dict[str, Any]:
    """Return what a results file holds; nothing where there is none or it is cut off."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def file_of(out: Path, part: str, suffix: str) -> Path:
    """Return a part's file; a part may have files of its own for its smallest size."""
    small = out / f"{part}_tiny{suffix}"
    return small if small.is_file() else out / f"{part}{suffix}"


def is_complete(out: Path, part: str) -> bool:
    """Tell whether nothing is left to measure in a part."""
    return read(file_of(out, part, ".json")).get("complete") is True


def note_end(out: Path, part: str, how: str) -> None:
    """Keep how a part ended, for the page."""
    known = read(out / ENDS) | {part: how}
    (out / ENDS).write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def errors(values: dict[str, Any]) -> dict[str, str]:
    """Return the measurements that failed, by key, with the first line of the error."""
    found = {}
    for key, value in values.items():
        if isinstance(value, dict) and value.get("error"):
            found[key] = (str(value["error"]).strip().splitlines() or ["?"])[0][:200]
    return found


def write(out: Path, parts: list[str]) -> None:
    """Write the page."""
    card = read(out / CARD)
    lines = [f"# {card.get('name', 'card unknown')}", ""]
    if card.get("tiny"):
        lines += ["Smallest sizes: these figures show that everything runs, nothing else.", ""]
    lines += ["| card | |", "| --- | --- |"]
    lines += [f"| {text} | {card[key]} |" for key, text in _CARD_ROWS if card.get(key) is not None]
    missing, ends = [], read(out / ENDS)
    for part in parts:
        table, values = file_of(out, part, ".md"), read(file_of(out, part, ".json"))
        body = (
            table.read_text(encoding="utf-8", errors="replace").strip()
            if table.is_file()
            else "No table."
        )
        lines += ["", f"## {part}", "", body]
        if values.get("complete") is not True:
            how = ends.get(part)
            state = "not complete" if values else "nothing measured"
            missing.append(f"- {part}: {state}" + (f"; {how}" if how else ""))
        missing += [f"- {part}, {key}: {error}" for key, error in errors(values).items()]
    lines += ["", "## Missing", "", *(missing or ["Nothing."]), ""]
    (out / NAME).write_text("\n".join(lines), encoding="utf-8")
