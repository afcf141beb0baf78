"""Labels of all videos -> COCO-format data, split by source."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recognizer.skeleton import EDGES, KEYPOINT_NAMES
from recognizer.storage.artifacts import write_json

SPLITS = ("train", "val")
JsonObject = dict[str, Any]


def split_sources(sources: Iterable[str], val_share: float) -> dict[str, str]:
    """Return the split of each source, by a digest of its name.

    Sources that come later change no other's split once both splits have a source by the digest
    alone; before that one source is moved to the split that has none, and may move back.

    Args:
        sources: names of recordings.
        val_share: share of them for validation; above 0, of two or more one is kept at least.

    """
    places = {source: _place(source) for source in set(sources)}
    val = {source for source, place in places.items() if place < val_share}
    if val_share > 0 and not val and len(places) > 1:
        val = {min(places, key=lambda source: (places[source], source))}
    if len(val) == len(places) and val:  # nothing would be trained on
        val.discard(max(val, key=lambda source: (places[source], source)))
    return {source: SPLITS[source in val] for source in sorted(places)}


def _place(source: str) -> float:
    digest = hashlib.sha256(source.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def annotation_file(folder: Path, split: str) -> Path:
    """Return the COCO file of a split."""
    return folder / f"person_keypoints_{split}.json"


def write_coco(
    folder: Path,
    pictures: Mapping[str, Sequence[JsonObject]],
    source_of: Mapping[str, str],
    split_of: Mapping[str, str],
) -> None:
    """Write the COCO file of each split.

    Args:
        folder: the data set's.
        pictures: by video, as ``VideoLabeller`` makes them.
        source_of: the recording, by video.
        split_of: the split, by source.

    """
    numbered = list(_numbered(pictures))
    for split in SPLITS:
        images: list[JsonObject] = []
        annotations: list[JsonObject] = []
        for number, video, picture in numbered:
            source = source_of[video]
            if split_of[source] != split:
                continue
            kept = {k: v for k, v in picture.items() if k != "annotations"}
            images.append({**kept, "id": number, "video": video, "source": source})
            for person in picture["annotations"]:
                own = {"id": len(annotations) + 1, "image_id": number, "category_id": 1}
                annotations.append({**person, **own})
        content = {
            "info": {"description": "pseudo-labels of --mode annotation.distill"},
            "images": images,
            "annotations": annotations,
            "categories": [
                {
                    "id": 1,
                    "name": "person",
                    "supercategory": "person",
                    "keypoints": list(KEYPOINT_NAMES),
                    "skeleton": [[a + 1, b + 1] for a, b in EDGES],
                }
            ],
        }
        write_json(annotation_file(folder, split), folder, content)


def _numbered(
    pictures: Mapping[str, Sequence[JsonObject]],
) -> Iterator[tuple[int, str, JsonObject]]:
    number = 0
    for video in sorted(pictures):
        for picture in pictures[video]:
            number += 1
            yield number, video, picture


def count_labels(pictures: Iterable[JsonObject]) -> dict[str, int]:
    """Return how many pictures, people, keypoints and ignore regions there are."""
    counts = Counter[str]()
    names = ("pictures", "people", "people_without_keypoints", "keypoints", "ignore_regions")
    for picture in pictures:
        counts["pictures"] += 1
        for one in picture["annotations"]:
            if one["iscrowd"]:
                counts["ignore_regions"] += 1
                continue
            counts["people"] += 1
            counts["keypoints"] += one["num_keypoints"]
            counts["people_without_keypoints"] += not one["num_keypoints"]
    return {name: counts[name] for name in names}
