"""The config's sections on cameras, how they are read, and the video kept as evidence."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from recognizer.config.types import ConfigPath, PlainName, Section, read_address

SCHEMES = ("rtsp", "rtsps", "http", "https", "tcp", "udp")
_MAX_DEVICE = 63
_DAY_S = 86400.0
Seconds = Annotated[float, Field(gt=0, le=_DAY_S)]
Wait = Annotated[float, Field(ge=0, le=_DAY_S)]


def _camera_url(value: str) -> str:
    read_address(value, SCHEMES, "rtsp://<host>:554/<stream>")
    return value


CameraUrl = Annotated[str, AfterValidator(_camera_url)]


class CameraConfig(Section):
    """One camera: an address, a USB device or a file that stands for one."""

    name: PlainName
    url: CameraUrl | None = Field(None, repr=False)  # it may hold a password
    device: Annotated[int, Field(ge=0, le=_MAX_DEVICE)] | None = None
    path: ConfigPath | None = None
    enabled: bool = True
    fps: Annotated[float, Field(ge=1, le=60)] = 12.5
    transport: Literal["tcp", "udp"] = "tcp"
    speed: Literal["real", "fastest"] = "real"
    verify_certificate: bool = False

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        given = [key for key in ("url", "device", "path") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected one of url, device and path, got {' and '.join(given) or 'none'}"
            )
        if self.speed == "fastest" and self.path is None:
            raise ValueError("speed: expected real for a camera, got fastest, which takes a path")
        return self


class RetryStepConfig(Section):
    """Waits between tries to open a camera, rising from the first to the last."""

    first_s: Seconds
    last_s: Seconds
    times: PositiveInt


class RetryConfig(Section):
    """When a lost camera is opened again."""

    steps: list[RetryStepConfig] = [
        RetryStepConfig(first_s=0.5, last_s=1.0, times=5),
        RetryStepConfig(first_s=5.0, last_s=5.0, times=5),
        RetryStepConfig(first_s=10.0, last_s=10.0, times=10),
    ]
    final_s: Seconds = 60.0
    jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    lasted_s: Wait = 2.0


class SourceConfig(Section):
    """How cameras are opened and read."""

    open_timeout_s: Seconds = 5.0
    read_timeout_s: Seconds = 2.0
    probe_bytes: Annotated[int, Field(ge=32, le=100_000_000)] = 50_000
    analyse_us: Annotated[int, Field(ge=1, le=60_000_000)] = 200_000
    threads: Annotated[int, Field(ge=1, le=16)] = 1
    stall_s: Seconds = 5.0
    stall_periods: Annotated[float, Field(gt=0, le=1000)] = 10.0
    gap_s: Seconds = 1.0
    queue: Annotated[int, Field(ge=1, le=64)] = 2
    gather_s: Annotated[float, Field(ge=0, le=10)] = 0.03
    max_age_s: Seconds = 0.5
    max_abandoned: PositiveInt = 4
    retry: RetryConfig = RetryConfig()


class EvidenceConfig(Section):
    """The camera's own video around an event, kept in memory until it is asked for."""

    before_s: Wait = 5.0
    after_s: Wait = 5.0
    keep_s: Wait = 15.0
    max_s: Seconds = 30.0
    max_mib: Annotated[float, Field(gt=0, le=4096)] = 64.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.before_s <= self.keep_s <= self.max_s:
            raise ValueError(
                "keep_s: expected before_s <= keep_s <= max_s, got "
                f"{self.before_s}, {self.keep_s}, {self.max_s}"
            )
        return self
