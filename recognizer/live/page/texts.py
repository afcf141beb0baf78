"""The texts of the page; `english.py` and `korean.py` hold them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "ko"]


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one language; those with braces are formatted."""

    language: Language
    title: str
    cameras: str
    events: str
    users: str
    log_in: str
    log_out: str
    name: str
    password: str
    wrong_login: str
    too_many_logins: str
    other_language: str
    no_cameras: str
    frames_per_second: str
    dropped: str
    reconnects: str
    last_frame: str
    seconds_ago: str
    never: str
    last_error: str
    error_message: str
    skeletons_only: str
    people: str
    connection_lost: str
    all_: str
    camera: str
    class_: str
    state: str
    review: str
    unreviewed: str
    from_: str
    until: str
    filter: str
    reset: str
    time: str
    zone: str
    duration: str
    peak: str
    older: str
    newest: str
    older_page: str
    newer: str
    no_events: str
    export: str
    new_event: str
    confirm: str
    false_alarm: str
    unsure: str
    note: str
    decisions: str
    no_decisions: str
    saved: str
    not_saved: str
    keys: str
    timeline: str
    no_timeline: str
    thresholds: str
    seconds: str
    streams: str
    stream_spoke: str
    involvement: str
    track: str
    seen: str
    positions: str
    clip: str
    download: str
    no_clip: str
    why: str
    why_peak: str
    why_windows: str
    why_stream: str
    why_muted: str
    why_continues: str
    why_open: str
    around: str
    nothing_around: str
    times_are: str
    role: str
    add_user: str
    save: str
    remove: str
    password_rule: str
    refused: str
    not_found: str
    bad_request: str
    forbidden: str
    old_form: str
    not_logged_in: str
    failed: str
    near_misses: str
    near_miss_note: str
    no_near_misses: str
    rule: str
    gaps: str
    no_gaps: str
    reason: str
    goes_on: str
    back: str
    camera_states: Mapping[str, str]
    event_states: Mapping[str, str]
    verdicts: Mapping[str, str]
    closings: Mapping[str, str]
    rules: Mapping[str, str]
    roles: Mapping[str, str]
    classes: Mapping[str, str]
    stream_names: Mapping[str, str]
    gap_reasons: Mapping[str, str]
    camera_advice: Mapping[str, str]
    zones: str
    zone_note: str
    zone_picture: str
    zone_new: str
    zone_changed: str
    zone_kind: str
    zone_help: str
    zone_keys: str
    zone_add_corner: str
    zone_remove_corner: str
    zone_close: str
    zone_cancel: str
    zone_edit: str
    zone_corner: str
    zone_open: str
    zone_closed: str
    zone_configured: str
    zone_author: str
    zone_remove_question: str
    no_zones: str
    zone_kinds: Mapping[str, str]
    zone_kind_notes: Mapping[str, str]
    zone_problems: Mapping[str, str]

    def named(self, names: Mapping[str, str], key: str) -> str:
        """Return the name of a key, which may be one of a classifier of one's own."""
        return names.get(key, key)

    def camera_error(self, reason: str) -> str:
        """Return why a camera was lost and, where something can be done, what to check."""
        advice = self.camera_advice.get(reason)
        name = self.gap_reasons[reason]
        return name if advice is None else f"{name}: {advice}"
