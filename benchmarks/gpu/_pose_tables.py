"""Tables of ``speed_pose``: calls, and the parts of a call."""

from typing import Any

from benchmarks.gpu._speed import number, percent, table

AGAIN = (
    "*: some of the frames take more candidates, people or rounds of suppression than the "
    "recording has room for; a call that shows such a frame computes the network once more, "
    "without it. The network's time alone is of grey frames, which fit."
)


def render(values: dict[str, Any]) -> str:
    """Return the tables of calls and of their parts."""
    rows = []
    for key, one in values.items():
        if key.startswith("pose|") and "per_s" in one:
            far = one["deviation"]
            rows.append(
                [
                    one["network"],
                    one["mode"] + ("*" if one.get("recorded") is False else ""),
                    str(one["batch"]),
                    number(one["p50_ms"]),
                    number(one["p90_ms"]),
                    number(one["p99_ms"]),
                    number(one["per_s"]),
                    number(one["network_ms"]),
                    number(one["tflops"]),
                    percent(one.get("of_matmul")),
                    percent(one.get("of_copy")),
                    number(one["peak_mib"]),
                    f"{far['found']} of {far['people']}, {number(far['median_px'], 2)} / "
                    f"{number(far['worst_px'], 2)} px",
                ]
            )
    head = [
        "network",
        "mode",
        "batch",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "per s",
        "network ms",
        "TFLOP/s",
        "of matmul",
        "of copy",
        "peak MiB",
        "people, deviation",
    ]
    text = table(head, rows) if rows else ""
    if any(row[1].endswith("*") for row in rows):
        text += "\n\n" + AGAIN
    parts = [one for key, one in values.items() if key.startswith("stages|") and "ms" in one]
    if parts:
        names = list(parts[0]["ms"])
        text += "\n\nWhere one call goes, ms:\n\n" + table(
            ["network", "mode", "batch", *names],
            [
                [
                    one["network"],
                    one["mode"],
                    str(one["batch"]),
                    *(number(one["ms"][name]) for name in names),
                ]
                for one in parts
            ],
        )
    return text
