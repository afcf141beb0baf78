"""A running program for the page: recorded poses, cameras in several states, events, users."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from starlette.testclient import TestClient

from recognizer.action.results import Person
from recognizer.config.alerts import LiveZoneConfig, RulesConfig
from recognizer.config.page import PageConfig
from recognizer.live.drawn_zones import ZoneBook
from recognizer.live.errors import Reason
from recognizer.live.events import LiveEvent
from recognizer.live.page.app import make_app
from recognizer.live.page.health import Metrics
from recognizer.live.page.server import PageServer
from recognizer.live.page.site import Site, make_site
from recognizer.live.store import Store
from recognizer.live.values import CameraError, CameraState, CameraStatus, DropCause
from recognizer.sequences import slice_frames
from recognizer.storage.artifacts import read_poses
from recognizer.types import PoseSequence

SAMPLE = Path(__file__).resolve().parents[3] / "samples" / "stage1" / "Fight" / "fi007.mp4.npz"
UTC_S = 1_800_000_000.0
BASE = "http://127.0.0.1:8740"
ADMIN, PASSWORD = "admin", "a long password"
HALL = CameraStatus(
    name="hall",
    address="rtsp://***@192.0.2.7/stream",
    state=CameraState.STREAMING,
    fps=12.4,
    size_wh=(640, 360),
    codec="h264",
    frames=5000,
    drops={DropCause.STALE: 3, DropCause.QUEUE_FULL: 1, DropCause.RATE: 900},
    reconnects={Reason.TIMEOUT: 2},
    connection=3,
    last_frame_age_s=0.1,
    last_error=None,
    abandoned=0,
)
YARD = replace(
    HALL,
    name="yard",
    address="rtsp://***@192.0.2.8/stream",
    state=CameraState.WAITING,
    fps=0.0,
    last_frame_age_s=75.0,
    last_error=CameraError(
        Reason.REFUSED, "rtsp://***@192.0.2.8/stream: expected video, got Connection refused"
    ),
)


class Recorded:
    """Poses of a video of samples/, as if it were seen now; clips in a folder."""

    def __init__(self, folder: Path, cameras: Sequence[CameraStatus] = (HALL, YARD)) -> None:
        self.folder, self.is_ready = folder, True
        self.dead: list[str] = []
        self.stills: dict[str, bytes] = {}
        self._cameras = list(cameras)
        self._poses: PoseSequence = read_poses(SAMPLE)[0]

    def cameras(self) -> list[CameraStatus]:
        """Return the cameras."""
        return [replace(c, size_wh=self._poses.size_wh) for c in self._cameras]

    def latest(self, camera: str) -> PoseSequence | None:
        """Return the frames up to this moment of the clip, which begins anew at its end."""
        states = {c.name: c.state for c in self._cameras}
        if states.get(camera) is not CameraState.STREAMING:
            return None
        stop = 1 + int(time.monotonic() * 12) % len(self._poses)
        return slice_frames(self._poses, max(0, stop - 10), stop)

    def ready(self) -> bool:
        """Return what was set."""
        return self.is_ready

    def dead_sinks(self) -> list[str]:
        """Return what was set."""
        return self.dead

    def still(self, camera: str) -> bytes | None:
        """Return what was set."""
        return self.stills.get(camera)

    def clip(self, event_id: str) -> Path | None:
        """Return the clip of an event that has one."""
        path = self.folder / f"{event_id}.mp4"
        return path if path.is_file() else None


def live_event(number: int, **other: object) -> LiveEvent:
    """Return an event that is over; the higher its number, the later it began."""
    values = [0.1, 0.25, 0.5, 0.72, 0.88, 0.93, 0.9, 0.81, 0.7, 0.52, 0.4, 0.3, 0.2]
    peak = 0.93 - 0.003 * (number % 100)
    one = LiveEvent(
        event_id=f"event-{number:05}",
        revision=0,
        state="end",
        camera=("hall", "yard")[number % 2],
        class_name=("Fight", "Fight", "Falldown")[number % 3],
        zone=("", "door")[number % 4 == 0],
        start_s=100.0,
        end_s=107.5,
        start_utc_s=UTC_S + 60 * number,
        end_utc_s=UTC_S + 60 * number + 7.5,
        peak_probability=peak,
        peak_s=4.0,
        probabilities=tuple((1.5 + 0.5 * i, v * peak / 0.93) for i, v in enumerate(values)),
        streams={"pose": 0.91, "movement": 0.62},
        people=(
            Person(7, 0.94, (120.0, 60.0, 210.0, 300.0), 1.0, 7.0),
            Person(9, 0.81, (200.0, 70.0, 300.0, 310.0), 1.0, 7.5),
        ),
        closed_by="quiet",
    )
    return replace(one, **other)  # type: ignore[arg-type]


def site_of(
    store: Store,
    live: Recorded,
    folder: Path,
    *,
    with_password: bool = False,
    token: str = "",
    zones: Sequence[LiveZoneConfig] = (),
) -> Site:
    """Return a page; with a password there is one user, the administrator."""
    values: dict[str, object] = {}
    for key, secret in (("password", PASSWORD if with_password else ""), ("metrics_token", token)):
        if secret:
            (folder / key).write_text(secret, encoding="utf-8")
            values[key] = {"file": str(folder / key)}
    config = PageConfig.model_validate(values)
    metrics, book = Metrics(live, store.path, ("log",)), ZoneBook(store, zones)
    return make_site(config, store, live, RulesConfig(), metrics, book)


def client_of(site: Site, address: str = "127.0.0.1") -> TestClient:
    """Return a browser without a login."""
    return TestClient(
        make_app(site), base_url=BASE, client=(address, 50000), follow_redirects=False
    )


class _Token(HTMLParser):
    value = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self.value = dict(attrs)["data-token"] or ""


def token_of(client: TestClient, path: str = "/login") -> str:
    """Return the token of the page that a browser is shown."""
    parser = _Token()
    answer = client.get(path, follow_redirects=True)
    parser.feed(answer.text)
    return parser.value


def log_in(client: TestClient, name: str = ADMIN, password: str = PASSWORD) -> int:
    """Fill the login's form; return the answer's status."""
    form = {"token": token_of(client), "name": name, "password": password, "next": "/events"}
    return client.post("/login", data=form).status_code


@contextmanager
def served(store: Store, live: Recorded, config: PageConfig | None = None) -> Iterator[PageServer]:
    """Serve the page, without a config on a free port."""
    server = PageServer(config or PageConfig(port=0), store, live)
    server.start()
    try:
        yield server
    finally:
        server.stop()
