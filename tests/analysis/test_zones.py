"""Zones: which videos show them, and who is inside."""

import unicodedata

import numpy as np
import pytest

from recognizer.analysis.zones import (
    NOWHERE,
    Zone,
    unseen_zones,
    without_ignored,
    zone_numbers,
    zones_of,
)
from recognizer.config.zones import ZonesConfig
from recognizer.types import UNTRACKED
from tests.scoring.actors import Actor, Shooting, film, stand, walk

SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))
SCREEN = Zone("ignore", "screen", ((0.4, 0.1), (0.6, 0.1), (0.6, 0.55), (0.4, 0.55)))


def section(**kinds):
    return ZonesConfig.model_validate(
        {
            kind: [{"name": n, "videos": v, "polygon": [list(p) for p in SQUARE]} for n, v in own]
            for kind, own in kinds.items()
        }
    )


def test_zones_belong_to_the_videos_of_their_camera():
    zones = section(rest=[("bed", "room_1/*"), ("sofa", "*")], ignore=[("window", "room_2/*")])
    assert [z.name for z in zones_of(zones, "room_1/night/a.mp4")] == ["bed", "sofa"]
    assert [(z.kind, z.name) for z in zones_of(zones, "room_2/a.mp4")] == [
        ("rest", "sofa"),
        ("ignore", "window"),
    ]
    assert unseen_zones(zones, ["room_1/a.mp4"]) == [
        "inference.zones.ignore: 'window': no video fits 'room_2/*', such as room_1/a.mp4"
    ]


def test_a_name_fits_however_its_letters_are_stored():
    parted = unicodedata.normalize("NFD", "café/a.mp4")
    zones = section(rest=[(unicodedata.normalize("NFD", "lit à côté"), "café/*")])
    (zone,) = zones_of(zones, parted)
    assert zone.name == unicodedata.normalize("NFC", "lit à côté")


@pytest.mark.parametrize("size_wh", [(100, 100), (1920, 1080)])
def test_the_resolution_does_not_matter(size_wh):
    zones = [Zone("ignore", "all", ((0, 0), (1, 0), (1, 1), (0, 1))), Zone("rest", "bed", SQUARE)]
    points = np.array([[0.5, 0.5], [0.1, 0.5], [np.nan, 0.5]]) * size_wh
    assert zone_numbers(points, zones, "rest", size_wh).tolist() == [1, NOWHERE, NOWHERE]
    assert zone_numbers(points, zones, "ignore", size_wh).tolist() == [0, 0, NOWHERE]


def test_the_first_of_two_zones_counts():
    zones = [Zone("rest", "bed", SQUARE), Zone("rest", "room", ((0, 0), (1, 0), (1, 1), (0, 1)))]
    points = np.array([[0.5, 0.5], [0.1, 0.1]])
    assert zone_numbers(points, zones, "rest", (1, 1)).tolist() == [0, 1]


def test_who_is_on_a_screen_is_not_looked_at_and_who_walks_past_is():
    """Both have the middle of their box on the screen; only one has the feet there."""
    scene = film(
        {1: Actor(stand, (640, 380), 150), 2: Actor(walk, (640, 470), 350)}, Shooting(seconds=1.0)
    )
    looked = without_ignored(scene, [SCREEN])
    ids = looked.poses.track_ids.reshape(-1, 2)
    assert (ids[:, 0] == UNTRACKED).all()
    assert (ids[:, 1] == 2).all()
    assert (looked.poses.boxes == scene.poses.boxes).all()


def test_without_ignored_zones_nothing_is_made_anew():
    scene = film({1: Actor(stand, (640, 380), 150)}, Shooting(seconds=1.0))
    assert without_ignored(scene, [Zone("rest", "bed", SQUARE)]) is scene
