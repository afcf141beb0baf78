"""The config's section ``live``: mode inference.realtime."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from recognizer.config.alerts import AlertsConfig
from recognizer.config.live import CameraConfig, EvidenceConfig, Seconds, SourceConfig
from recognizer.config.page import PageConfig
from recognizer.config.types import ConfigPath, Section
from recognizer.installation import PROJECT

_SCRATCH = ".scratch"  # takes unfinished clips, and is emptied at the start


class LiveConfig(Section):
    """Cameras in, events out."""

    cameras: list[CameraConfig] = []
    source: SourceConfig = SourceConfig()
    stride_s: Annotated[float, Field(ge=0.02, le=60)] = 0.5
    look_ahead_s: Annotated[float, Field(ge=0, le=60)] = 0.0
    max_frames: Annotated[int, Field(ge=1, le=256)] = 16
    alerts: AlertsConfig = AlertsConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    clips: Literal["skeletons", "pixels", "none"] = "skeletons"
    keep_poses: bool = True
    clips_dir: ConfigPath = PROJECT / "output" / "live" / "clips"
    min_free_mib: Annotated[int, Field(ge=0, le=2**30)] = 1024
    page: PageConfig = PageConfig()
    status_s: Seconds = 30.0

    @model_validator(mode="after")
    def _check_names(self) -> "LiveConfig":
        names = [camera.name for camera in self.cameras]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"cameras: expected every name once, got {', '.join(twice)} twice")
        if any(name.casefold() == _SCRATCH for name in names):
            raise ValueError(f"cameras: expected another name than {_SCRATCH}, a folder of clips")
        return self
