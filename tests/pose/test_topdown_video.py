"""One video through the top-down model: who is posed, in which turn, and how often it searches."""

from pathlib import Path

import numpy as np
import pytest

from recognizer.backends.onnx import OnnxNetwork
from recognizer.config.models import DetectorConfig, TopDownConfig
from recognizer.config.types import OnnxRuntimeOptions
from recognizer.pose.detector import Boxes, YoloxDetector
from recognizer.pose.topdown import TopDownPose
from recognizer.pose.topdown_video import TopDownVideo
from recognizer.pose.turned import TURNS, TurnedImage, best_turns, find_turned
from recognizer.types import Poses
from recognizer.video.array_image import ArrayImage
from recognizer.video.reader import VideoReader

ASSETS = Path(__file__).resolve().parents[3] / "shared" / "assets"
SIZE_WH = (320, 240)
STANDING, LYING = [40.0, 20, 80, 120], [60.0, 130, 180, 170]


class VideoTimeline:
    """Frames with one person, as a detector and a pose network would tell of them.

    Args:
        upright: (box, score) of each frame as the detector sees it in the picture as it is.
        turned: the same in the pictures turned both ways, boxes in pixels of the picture as it is.
        good_turn: the turn in which the pose network is sure.

    """

    def __init__(self, upright, turned, good_turn=1, sure=0.8):
        self.upright, self.turned, self.good_turn, self.sure = upright, turned, good_turn, sure
        self.images = [ArrayImage(np.zeros((*SIZE_WH[::-1], 3), np.uint8)) for _ in upright]
        self.searches, self.posed = [], []

    def detector(self, images):
        found = []
        for image in images:
            if isinstance(image, TurnedImage):
                t = self.images.index(image.image)
                self.searches.append(t)
                found.append(boxes_of([(turn_box(b, image.turn), s) for b, s in self.turned[t]]))
            else:
                found.append(boxes_of(self.upright[self.images.index(image)]))
        return found

    def keypoints_of(self, images, owners, boxes, turns=None):
        turns = np.zeros(len(owners), np.int64) if turns is None else turns
        for owner, box, turn in zip(owners, boxes, turns, strict=True):
            self.posed.append((self.images.index(images[owner]), box.tolist(), int(turn)))
        scores = np.where(turns == self.good_turn, self.sure, 0.1).astype(np.float32)
        return np.zeros((len(owners), 17, 2), np.float32), np.repeat(scores[:, None], 17, axis=1)

    def poses(self, batch=4, fps=10, **settings) -> list[Poses]:
        video = TopDownVideo(self.detector, self.keypoints_of, TopDownConfig(**settings))
        found = []
        for i in range(0, len(self.images), batch):
            images = self.images[i : i + batch]
            found += video(images, [(i + k) / fps for k in range(len(images))])
        return found


def boxes_of(found):
    scores = np.float32([score for _, score in found])
    return Boxes(np.float32([box for box, _ in found]).reshape(-1, 4), scores)


def turn_box(box, turn):
    """Return a box of the picture as it is in the picture that np.rot90 makes of it."""
    (x1, y1, x2, y2), (width, height) = box, SIZE_WH
    return [y1, width - x2, y2, width - x1] if turn == 1 else [height - y2, x1, height - y1, x2]


def falling(frames=12, fall=5, score=0.5, **k):
    """Somebody is seen upright until the fall, then in the turned pictures alone."""
    upright = [[(STANDING, 0.8)] if t < fall else [] for t in range(frames)]
    turned = [[] if t < fall else [(LYING, score)] for t in range(frames)]
    return VideoTimeline(upright, turned, **k)


@pytest.mark.parametrize("turn", TURNS)
def test_boxes_of_a_turned_picture_come_back_to_the_picture_as_it_is(turn):
    footage = VideoTimeline([[]], [[(LYING, 0.5)]])
    image = footage.images[0]
    seen = TurnedImage(image, turn)
    assert seen.size_wh == SIZE_WH[::-1]
    assert seen.bgr((24, 32)).shape == (32, 24, 3)
    found = find_turned(footage.detector, image, boxes_of([]))
    np.testing.assert_allclose(found.xyxy, [LYING])  # both turns see it, one is kept
    np.testing.assert_allclose(found.scores, [0.45], rtol=1e-6)


def test_who_is_found_better_upright_is_not_found_again():
    footage = VideoTimeline([[]], [[(LYING, 0.5)]])
    for score, count in ((0.46, 0), (0.44, 1)):
        found = find_turned(footage.detector, footage.images[0], boxes_of([(LYING, score)]))
        assert len(found.scores) == count


def test_the_best_turn_is_by_mean_score_with_a_bonus_for_upright():
    people, turns = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    scores = np.float32([[0.5] * 17, [0.5] * 17, [0.54] * 17, [0.56] * 17])
    assert best_turns(people, turns, scores).tolist() == [0, 3]


def test_somebody_who_fell_is_posed_in_every_frame_from_the_next_look_on():
    footage = falling()
    poses = footage.poses(turned_period_s=0.4)
    assert sorted(set(footage.searches)) == [0, 4, 8]
    assert [len(p) for p in poses] == [1] * 5 + [0] * 3 + [1] * 4
    np.testing.assert_allclose(poses[8].boxes, [LYING])
    assert poses[11].keypoint_scores.mean() == pytest.approx(0.8)
    assert poses[11].box_scores >= 0.25
    # Between two searches in the known turn alone.
    assert [turn for t, _, turn in footage.posed if t == 9] == [1]
    assert sorted(turn for t, _, turn in footage.posed if t == 8) == [-1, 0, 1]


def test_where_nobody_was_a_weak_pose_is_nobody():
    strong, weak = (
        VideoTimeline([[]] * 6, [[(LYING, 0.6)]] * 6, sure=sure).poses() for sure in (0.55, 0.45)
    )
    assert [len(p) for p in strong] == [1] * 6
    assert [len(p) for p in weak] == [0] * 6


def test_who_is_gone_is_not_posed_for_longer_than_the_next_look():
    footage = VideoTimeline([[]] * 8, [[(LYING, 0.6)]] + [[]] * 7)
    footage.sure = 0.8
    video = TopDownVideo(footage.detector, footage.keypoints_of, TopDownConfig())
    first = video(footage.images[:4], [0.0, 0.1, 0.2, 0.3])
    footage.sure = 0.1
    then = video(footage.images[4:], [0.4, 0.5, 0.6, 0.7])
    assert [len(p) for p in first + then] == [1] * 4 + [0] * 4


def test_the_size_of_a_batch_changes_nothing():
    expected = [(p.boxes.tolist(), p.box_scores.tolist()) for p in falling().poses(batch=1)]
    for batch in (2, 3, 5, 12):
        poses = falling().poses(batch=batch)
        assert [(p.boxes.tolist(), p.box_scores.tolist()) for p in poses] == expected


def test_the_period_between_searches_is_in_seconds():
    for fps in (5, 10, 20):
        footage = falling(frames=2 * fps, fall=2 * fps)
        footage.poses(fps=fps, turned_period_s=0.4)
        assert len(footage.searches) == 2 * 5  # two turns at 0, 0.4, 0.8, 1.2 and 1.6 s


def test_switched_off_every_box_is_posed_upright_and_nothing_is_turned():
    upright = [[(STANDING, 0.8), (LYING, 0.12)]] * 3
    footage = VideoTimeline(upright, [[(LYING, 0.9)]] * 3)
    poses = footage.poses(selective=False, turned=False)
    assert [len(p) for p in poses] == [2] * 3
    assert not footage.searches
    assert {turn for _, _, turn in footage.posed} == {0}
    chosen = VideoTimeline(upright, [[]] * 3).poses(turned=False)
    assert [p.boxes.tolist() for p in chosen] == [[STANDING]] * 3


def test_nobody_at_all():
    assert [len(p) for p in VideoTimeline([[]] * 5, [[]] * 5).poses()] == [0] * 5


@pytest.mark.skipif(not ASSETS.is_dir(), reason="needs ../shared/assets")
def test_real_weights_keep_a_person_who_fell():
    networks = [
        OnnxNetwork(ASSETS / "weights" / name, OnnxRuntimeOptions())
        for name in ("yolox_nano.onnx", "pp_tinypose_256x192.onnx")
    ]
    with VideoReader(ASSETS / "falls/Subject_1/Fall/15.mp4", sample_fps=5) as reader:
        frames = [frame for frame in reader if frame.time_s > 1.0]
    down = [frame.time_s > 2.8 for frame in frames]  # the fall starts at 1.8 s
    shares = []
    for on in (False, True):
        settings = TopDownConfig(turned=on)
        pose = TopDownPose(YoloxDetector(networks[0], DetectorConfig()), networks[1], settings)
        found = pose.for_video()([f.image for f in frames], [f.time_s for f in frames])
        sure = [bool((p.box_scores >= settings.sure_score).any()) for p in found]
        shares.append(np.mean([s for s, d in zip(sure, down, strict=True) if d]))
    assert shares[0] < 0.5
    assert shares[1] > 0.8


class PosedFootage(VideoTimeline):
    """VideoTimeline in which keypoints lie along the middle of what a box shows.

    Args:
        shows: box of which the pose is found -> box in which the keypoints lie; else the same.

    """

    def __init__(self, *args, shows=(), **k):
        super().__init__(*args, **k)
        self.shows = {tuple(box): seen for box, seen in shows}

    def keypoints_of(self, images, owners, boxes, turns=None):
        keypoints, scores = super().keypoints_of(images, owners, boxes, turns)
        for row, box in zip(keypoints, boxes.tolist(), strict=True):
            x1, y1, x2, y2 = self.shows.get(tuple(box), box)
            row[:] = np.linspace((x1, y1), (x2, y2), 17)
        return keypoints, scores


BED, BYSTANDER = [20.0, 50, 300, 160], [200.0, 100, 215, 160]


@pytest.mark.parametrize(("score", "beds"), [(0.7, 0), (0.5, 1)], ids=["seen", "hardly-seen"])
def test_a_turned_box_that_shows_somebody_seen_upright_is_furniture(score, beds):
    upright = [[(STANDING, score)]] * 6
    footage = PosedFootage(upright, [[(BED, 0.6)]] * 6, shows=[(BED, STANDING)])
    assert [len(poses) for poses in footage.poses()] == [1 + beds] * 6


def test_somebody_who_lies_is_found_behind_a_bystander():
    footage = PosedFootage([[(BYSTANDER, 0.8)]] * 6, [[(BED, 0.6)]] * 6)
    assert [len(poses) for poses in footage.poses()] == [2] * 6


def test_who_lay_is_kept_when_somebody_bends_over():
    upright = [[] if t < 6 else [(STANDING, 0.8)] for t in range(12)]
    footage = PosedFootage(upright, [[(BED, 0.6)]] * 12, shows=[(BED, STANDING)])
    assert [len(poses) for poses in footage.poses()] == [1] * 6 + [2] * 6
