"""Find the category of people in a COCO file, and check its keypoints against COCO-17."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recognizer.sdpose.json_file import JsonObject
from recognizer.skeleton import KEYPOINT_NAMES, NUM_KEYPOINTS

_SIDES = {"l": "left", "r": "right"}


def person_category(categories: Sequence[JsonObject], path: Path) -> tuple[int, list[str]]:
    """Return the id of the category person, and what may be wrong with it.

    Raises:
        ValueError: there is none or several, an id is there twice, or its keypoints are not
            COCO's in COCO's order.

    """
    named = [row for row in categories if str(row.get("name")).strip().casefold() == "person"]
    if not named or type(named[0].get("id")) is not int:
        listed = ", ".join(f"{row.get('name')!r:.30}" for row in categories[:5]) or "no category"
        raise ValueError(
            f"{path}: expected a category named person, with an id (a whole number), found none "
            f"among {listed}; rename the category of people"
        )
    if len(named) > 1:
        ids = ", ".join(f"{row.get('id')!r:.20}" for row in named)
        raise ValueError(
            f"{path}: expected one category named person, got {len(named)} (ids {ids})"
        )
    number = int(named[0]["id"])
    if sum(row.get("id") == number for row in categories) > 1:
        raise ValueError(f"{path}: categories: the id {number} of person is there twice")
    return number, _check_names(named[0].get("keypoints"), path)


def _check_names(names: Any, path: Path) -> list[str]:
    """Refuse other keypoints or another order; warn where there are no names."""
    if not names and names in (None, []):
        return [
            f"{path}: category person names no keypoints; their order is taken for COCO's "
            f"({', '.join(KEYPOINT_NAMES[:3])}, ...)"
        ]
    if not isinstance(names, list) or len(names) != NUM_KEYPOINTS:
        got = len(names) if isinstance(names, list) else f"{names!r:.40}"
        raise ValueError(
            f"{path}: expected the {NUM_KEYPOINTS} keypoints of COCO in category person, got "
            f"{got}; convert the annotations to COCO-17 first"
        )
    found = [_plain(name) for name in names]
    expected = [_plain(name) for name in KEYPOINT_NAMES]
    wrong = [i for i in range(NUM_KEYPOINTS) if found[i] != expected[i]]
    if not wrong:
        return []
    first = "; ".join(
        f"number {i + 1} is {names[i]!r:.30}, expected {KEYPOINT_NAMES[i]}" for i in wrong[:3]
    )
    remedy = (
        "these are COCO's keypoints in another order: bring the triples of each annotation's "
        "keypoints, and the names, into COCO's order"
        if sorted(found) == sorted(expected)
        else "if the keypoints are COCO's under other names, write COCO's names; else convert the "
        "annotations to COCO-17 first"
    )
    raise ValueError(
        f"{path}: categories: keypoints of person: expected {', '.join(KEYPOINT_NAMES)}; "
        f"{len(wrong)} of {NUM_KEYPOINTS} differ: {first}{'; ...' if len(wrong) > 3 else ''}; "
        f"{remedy}"
    )


def _plain(name: Any) -> tuple[str, ...]:
    """Return a name without case, blanks, underscores and the order of its words.

    ``left_eye``, ``Left Eye``, ``LeftEye``, ``L-Eye`` and ``eye_left`` are one name.
    """
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", str(name))
    words = re.sub(r"(left|right)", r" \1 ", words.lower())
    return tuple(sorted(_SIDES.get(word, word) for word in re.findall(r"[^\W_]+", words)))
