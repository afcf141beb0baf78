"""The config's sections on live events: rules, zones, schedule, store, and sinks."""

import os
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from recognizer.config.types import ConfigPath, NonNegative, PlainName, Section, Unit, read_address
from recognizer.config.zones import Polygon, ShownName
from recognizer.installation import PROJECT

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Pattern = Annotated[str, Field(min_length=1, max_length=100)]

# What min_s: null means. A fall is over sooner than a fight.
MIN_S_OF_CLASS = {"fight": 1.5}
MIN_S = 1.0
_MAX_SECRET_BYTES = 64 * 1024
_QUIET = ConfigDict(hide_input_in_errors=True)  # a wrong address may hold a password


class RuleConfig(Section):
    """The rules by which windows of one class and camera become an event.

    ``max_s`` bounds how far windows extend an event; those that open it may be longer.
    """

    enter: Unit = 0.6
    leave: Unit = 0.4
    windows_needed: Annotated[int, Field(ge=1, le=100)] = 3
    windows_of: Annotated[int, Field(ge=1, le=100)] = 5
    smoothing_s: NonNegative = 0.5
    min_s: NonNegative | None = None
    merge_s: NonNegative = 5.0
    quiet_s: PositiveFloat = 5.0
    max_s: Annotated[float, Field(ge=10)] = 300.0
    update_s: PositiveFloat = 5.0
    cooldown_s: NonNegative = 60.0

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        for low, high in (
            ("leave", "enter"),
            ("windows_needed", "windows_of"),
            ("merge_s", "quiet_s"),
            ("min_s", "max_s"),
        ):
            a, b = getattr(self, low), getattr(self, high)
            if a is not None and a > b:
                raise ValueError(f"{low}: expected at most {high} ({b:g}), got {a:g}")
        return self

    def shortest_s(self, class_name: str) -> float:
        """Return the shortest event of a class in seconds."""
        if self.min_s is not None:
            return self.min_s
        return MIN_S_OF_CLASS.get(class_name.lower(), MIN_S)


class RuleOverride(Section):
    """Other values for the cameras and classes that two shell patterns fit."""

    camera: Pattern = "*"
    class_name: Pattern = "*"
    enter: Unit | None = None
    leave: Unit | None = None
    windows_needed: Annotated[int, Field(ge=1, le=100)] | None = None
    windows_of: Annotated[int, Field(ge=1, le=100)] | None = None
    smoothing_s: NonNegative | None = None
    min_s: NonNegative | None = None
    merge_s: NonNegative | None = None
    quiet_s: PositiveFloat | None = None
    max_s: Annotated[float, Field(ge=10)] | None = None
    update_s: PositiveFloat | None = None
    cooldown_s: NonNegative | None = None

    @model_validator(mode="after")
    def _check_some(self) -> Self:
        if not self.model_dump(exclude={"camera", "class_name"}, exclude_none=True):
            raise ValueError("expected another value for one rule or more, got none")
        return self

    def fits(self, camera: str, class_name: str) -> bool:
        """Return whether it is for a camera and class."""
        return fnmatchcase(camera, self.camera) and fnmatchcase(class_name, self.class_name)


class RulesConfig(RuleConfig):
    """The rules of all cameras and classes; of two overrides that fit, the later counts."""

    overrides: list[RuleOverride] = []

    @model_validator(mode="after")
    def _check_overrides(self) -> Self:
        for number, override in enumerate(self.overrides):
            try:
                self._with([override])
            except ValueError as error:
                raise ValueError(f"overrides[{number}]: {error}") from error
        return self

    def rules_for(self, camera: str, class_name: str) -> RuleConfig:
        """Return the rules of a class at a camera.

        Raises:
            ValueError: overrides that are right alone and contradict one another together.

        """
        return self._with([o for o in self.overrides if o.fits(camera, class_name)])

    def _with(self, overrides: list[RuleOverride]) -> RuleConfig:
        values = self.model_dump(exclude={"overrides"})
        for override in overrides:
            values |= override.model_dump(exclude={"camera", "class_name"}, exclude_none=True)
        return RuleConfig.model_validate(values)


class LiveZoneConfig(Section):
    """One zone of the cameras that a shell pattern fits.

    ``include``: only people in such a zone count, where a camera has one; ``ignore``: people there
    never count; ``rest``: people there never count for falls.
    """

    name: ShownName
    kind: Literal["include", "ignore", "rest"]
    camera: Pattern = "*"
    polygon: Polygon

    def fits(self, camera: str) -> bool:
        """Return whether it is for a camera."""
        return fnmatchcase(camera, self.camera)


def _time_of_day(value: str) -> str:
    hours, _, minutes = value.partition(":")
    right = len(hours) == len(minutes) == 2 and (hours + minutes).isdecimal() and value.isascii()
    if not right or int(minutes) > 59 or int(hours) * 60 + int(minutes) > 24 * 60:
        raise ValueError(f"expected a time from 00:00 to 24:00, got {value!r}")
    return value


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"expected a time zone such as Asia/Seoul, got {value!r}") from error
    return value


TimeOfDay = Annotated[str, AfterValidator(_time_of_day)]


class HoursConfig(Section):
    """Hours on some days; those that end at or before their start go on into the next day."""

    days: Annotated[list[Day], Field(min_length=1)] = list(DAYS)
    start: TimeOfDay = Field("00:00", alias="from")
    end: TimeOfDay = Field("24:00", alias="to")


class ScheduleConfig(Section):
    """When events count."""

    camera: Pattern = "*"
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"
    hours: Annotated[list[HoursConfig], Field(min_length=1)]

    def fits(self, camera: str) -> bool:
        """Return whether it is for a camera."""
        return fnmatchcase(camera, self.camera)


class StoreConfig(Section):
    """The database of events and of notices that wait."""

    path: ConfigPath = PROJECT / "output" / "live" / "events.sqlite3"
    retention_days: Annotated[float, Field(gt=0, le=36500)] = 30.0
    quota_mib: PositiveInt = 1024


class SecretConfig(Section):
    """Where a secret stands: an environment variable or a file; the config never holds it."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    file: ConfigPath | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("expected one of env and file")
        return self

    def read(self) -> str:
        """Return the secret, without the line break at a file's end.

        Raises:
            ValueError: no such variable, no readable text, or nothing in it.

        """
        if self.env is not None:
            place, value = f"environment variable {self.env}", os.environ.get(self.env, "")
        else:
            place, value = f"file {self.file}", self._from_file()
        if not value:
            raise ValueError(f"expected a secret in the {place}, found none; set it and try again")
        return value

    def _from_file(self) -> str:
        if self.file is None:
            return ""
        try:
            with self.file.open("rb") as file:
                data = file.read(_MAX_SECRET_BYTES + 1)
        except OSError as error:
            raise ValueError(
                f"expected a secret in the file {self.file}: {error.strerror}; make it readable"
            ) from None
        if len(data) > _MAX_SECRET_BYTES:
            raise ValueError(f"expected a secret in the file {self.file}, found a larger file")
        try:
            return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:  # its message would show the bytes
            raise ValueError(f"expected UTF-8 text in the file {self.file}") from None


def _http_url(value: str) -> str:
    parts = read_address(value, ("http", "https"), "https://<host>/<path>")
    if parts.username is not None or parts.password is not None:
        raise ValueError("expected an address without user and password")
    if parts.fragment:
        raise ValueError("expected an address without #")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class SinkConfig(Section):
    """What all sinks have: a name of their own, and which events they get."""

    model_config = _QUIET
    name: PlainName
    cameras: Pattern = "*"
    classes: Pattern = "*"
    give_up_h: PositiveFloat = 24.0

    def takes(self, camera: str, class_name: str) -> bool:
        """Return whether it gets the events of a camera and class."""
        return fnmatchcase(camera, self.cameras) and fnmatchcase(class_name, self.classes)


class JsonLinesSink(SinkConfig):
    """A file with one JSON object a line."""

    kind: Literal["jsonl"] = "jsonl"
    path: ConfigPath


class WebhookSink(SinkConfig):
    """An HTTP server that takes a POST for every notice."""

    kind: Literal["webhook"] = "webhook"
    url: HttpUrl = Field(repr=False)  # its path may be a secret
    secret: SecretConfig | None = None
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 4.0


def _topic(value: str) -> str:
    parts = value.split("/")
    if not value.isprintable() or any(not part or set(part) & set("+#$") for part in parts):
        raise ValueError("expected a topic such as recognizer/hall, without +, # and $")
    return value


Topic = Annotated[str, Field(max_length=200), AfterValidator(_topic)]


class MqttSink(SinkConfig):
    """An MQTT broker, with discovery for Home Assistant."""

    kind: Literal["mqtt"] = "mqtt"
    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    tls: bool = False
    ca_file: ConfigPath | None = None
    user: str | None = None
    password: SecretConfig | None = None
    topic: Topic = "recognizer"
    discovery: bool = True
    discovery_topic: Topic = "homeassistant"
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 4.0

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if self.password is not None and self.user is None:
            raise ValueError("password: expected a user beside it, got none")
        if self.ca_file is not None and not self.tls:
            raise ValueError("ca_file: expected tls: true beside it")
        return self


class FrigateSink(SinkConfig):
    """A Frigate server, whose API creates and ends events."""

    kind: Literal["frigate"] = "frigate"
    url: HttpUrl
    token: SecretConfig | None = None
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 4.0


class CommandSink(SinkConfig):
    """A program that is run for every notice, without a shell."""

    kind: Literal["command"] = "command"
    argv: Annotated[
        list[Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")]], Field(min_length=1)
    ]
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0


AnySink = Annotated[
    JsonLinesSink | WebhookSink | MqttSink | FrigateSink | CommandSink,
    Field(discriminator="kind"),
]


class AlertsConfig(Section):
    """From probabilities to events, their store, and where notices of them go."""

    model_config = _QUIET
    rules: RulesConfig = RulesConfig()
    zones: list[LiveZoneConfig] = []
    schedules: list[ScheduleConfig] = []
    store: StoreConfig = StoreConfig()
    sinks: list[AnySink] = []

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [sink.name for sink in self.sinks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sinks: expected every name once, got {', '.join(twice)} twice")
        return self
