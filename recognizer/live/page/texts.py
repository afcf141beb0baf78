"""Every text of the page, in English and Korean."""

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

    def named(self, names: Mapping[str, str], key: str) -> str:
        """Return the name of a key, which may be one of a classifier of one's own."""
        return names.get(key, key)


ENGLISH = Texts(
    language="en",
    title="Recognizer",
    cameras="Cameras",
    events="Events",
    users="Users",
    log_in="Log in",
    log_out="Log out",
    name="Name",
    password="Password",
    wrong_login="Name and password do not fit.",
    too_many_logins="Too many logins. Try again in {seconds} s.",
    other_language="한국어",
    no_cameras="No camera is configured.",
    frames_per_second="fps",
    dropped="dropped",
    reconnects="reconnects",
    last_frame="last frame",
    seconds_ago="{seconds} s ago",
    never="never",
    last_error="Last error",
    skeletons_only="Skeletons only. No pixels leave the program.",
    people="People",
    connection_lost="No answer from the program. Trying again …",
    all_="All",
    camera="Camera",
    class_="Class",
    state="State",
    review="Review",
    unreviewed="Not reviewed",
    from_="From",
    until="Until",
    filter="Filter",
    reset="Reset",
    time="Time",
    zone="Zone",
    duration="Duration",
    peak="Peak",
    older="Older",
    newest="Newest",
    older_page="Older events",
    newer="Newer",
    no_events="No event fits the filter.",
    export="Export",
    new_event="New event",
    confirm="Confirm",
    false_alarm="False alarm",
    unsure="Unsure",
    note="Note",
    decisions="Decisions",
    no_decisions="None yet.",
    saved="Saved",
    not_saved="Not saved. Load the page again.",
    keys="Keys: c confirm, f false alarm, u unsure, j older, k newer, Enter open",
    timeline="Probability over time",
    no_timeline="No probabilities were kept.",
    thresholds="Dashed lines: begins at {enter}, ends at {leave}",
    seconds="s",
    streams="Streams",
    stream_spoke="spoke",
    involvement="Involvement",
    track="Person",
    seen="Seen",
    positions="Where they were",
    clip="Clip",
    download="Download",
    no_clip="There is no clip of this event.",
    why="Why",
    why_peak="The smoothed probability of {name} reached {peak} after {seconds} s.",
    why_windows="{above} of {count} windows reached the threshold {enter}.",
    why_stream="At the peak, the stream “{stream}” gave most.",
    why_muted="Muted: it began in the cooldown of an earlier event, so no notice was sent.",
    why_continues="It continues an earlier event that grew too long.",
    why_open="It goes on.",
    around="Around this time at this camera",
    nothing_around="Nothing else.",
    times_are="Times: {zone}",
    role="Role",
    add_user="Add or change a user",
    save="Save",
    remove="Remove",
    password_rule="At least 8 characters",
    refused="Refused",
    not_found="There is no such page, or the event was removed.",
    bad_request="The request cannot be read. Go back and check the fields.",
    forbidden="Your role does not permit this.",
    old_form="The form is too old. Load the page again.",
    not_logged_in="Log in first.",
    failed="The program cannot answer now. Its log says why.",
    near_misses="Near misses",
    near_miss_note="Windows that came near an event, and the rule that was not met last.",
    no_near_misses="None.",
    rule="Rule not met",
    gaps="Times without video",
    no_gaps="None.",
    reason="Reason",
    goes_on="goes on",
    back="Back to the events",
    camera_states={
        "off": "off",
        "connecting": "connecting",
        "streaming": "live",
        "waiting": "waiting",
        "ended": "ended",
        "failed": "failed",
    },
    event_states={"new": "begun", "update": "going on", "end": "over"},
    verdicts={"confirmed": "confirmed", "false_alarm": "false alarm", "unsure": "unsure"},
    closings={
        "quiet": "It ended when it grew quiet.",
        "max_s": "It ended at the longest duration allowed.",
        "gap": "It ended because the video was interrupted.",
        "stop": "It ended when the program was stopped.",
        "restart": "It was left open by a program that was killed, and ended at the restart.",
    },
    rules={
        "enter": "threshold",
        "windows": "number of windows",
        "min_s": "shortest duration",
        "zone": "zone",
        "schedule": "schedule",
        "gap": "video interrupted",
    },
    roles={"viewer": "viewer", "reviewer": "reviewer", "admin": "administrator"},
    classes={"Fight": "Fight", "Fall": "Fall", "Falldown": "Fall", "Falling": "Fall"},
    stream_names={"pose": "pose", "movement": "movement"},
)

KOREAN = Texts(
    language="ko",
    title="Recognizer",
    cameras="카메라",
    events="이벤트",
    users="사용자",
    log_in="로그인",
    log_out="로그아웃",
    name="이름",
    password="비밀번호",
    wrong_login="이름 또는 비밀번호가 맞지 않습니다.",
    too_many_logins="로그인 시도가 너무 많습니다. {seconds}초 뒤에 다시 시도하세요.",
    other_language="English",
    no_cameras="설정된 카메라가 없습니다.",
    frames_per_second="fps",
    dropped="누락",
    reconnects="재연결",
    last_frame="마지막 프레임",
    seconds_ago="{seconds}초 전",
    never="없음",
    last_error="마지막 오류",
    skeletons_only="골격만 표시합니다. 영상은 전송되지 않습니다.",
    people="사람",
    connection_lost="프로그램이 응답하지 않습니다. 다시 연결하는 중 …",
    all_="전체",
    camera="카메라",
    class_="종류",
    state="상태",
    review="검토",
    unreviewed="미검토",
    from_="시작",
    until="끝",
    filter="필터 적용",
    reset="초기화",
    time="시각",
    zone="구역",
    duration="지속 시간",
    peak="최고 확률",
    older="이전 이벤트",
    newest="최신 이벤트",
    older_page="이전 목록",
    newer="다음 이벤트",
    no_events="조건에 맞는 이벤트가 없습니다.",
    export="내보내기",
    new_event="새 이벤트",
    confirm="확인",
    false_alarm="오탐",
    unsure="불확실",
    note="메모",
    decisions="검토 기록",
    no_decisions="아직 없습니다.",
    saved="저장됨",
    not_saved="저장하지 못했습니다. 페이지를 새로 고치세요.",
    keys="단축키: c 확인, f 오탐, u 불확실, j 이전, k 다음, Enter 열기",
    timeline="시간별 확률",
    no_timeline="저장된 확률이 없습니다.",
    thresholds="점선: 시작 {enter}, 종료 {leave}",
    seconds="초",
    streams="스트림",
    stream_spoke="주도",
    involvement="관여도",
    track="사람",
    seen="관찰 구간",
    positions="위치",
    clip="영상",
    download="내려받기",
    no_clip="이 이벤트의 영상이 없습니다.",
    why="판단 근거",
    why_peak="{name}의 평활화된 확률이 {seconds}초 뒤 {peak}에 이르렀습니다.",
    why_windows="{count}개 구간 중 {above}개가 임계값 {enter} 이상이었습니다.",
    why_stream="최고점에서는 “{stream}” 스트림의 확률이 가장 높았습니다.",
    why_muted="알림 없음: 앞선 이벤트의 대기 시간 안에 시작되어 알림을 보내지 않았습니다.",
    why_continues="너무 길어져 나뉜 앞선 이벤트에서 이어집니다.",
    why_open="아직 진행 중입니다.",
    around="같은 카메라의 비슷한 시각",
    nothing_around="다른 이벤트가 없습니다.",
    times_are="시간대: {zone}",
    role="권한",
    add_user="사용자 추가 또는 변경",
    save="저장",
    remove="삭제",
    password_rule="8자 이상",
    refused="거부됨",
    not_found="페이지가 없거나 이벤트가 삭제되었습니다.",
    bad_request="요청을 해석할 수 없습니다. 뒤로 돌아가 입력값을 확인하세요.",
    forbidden="이 작업을 할 권한이 없습니다.",
    old_form="양식이 만료되었습니다. 페이지를 새로 고치세요.",
    not_logged_in="먼저 로그인하세요.",
    failed="지금은 응답할 수 없습니다. 원인은 로그에 있습니다.",
    near_misses="기준 미달",
    near_miss_note="이벤트에 가까웠으나 규칙을 만족하지 못한 구간입니다.",
    no_near_misses="없습니다.",
    rule="미충족 규칙",
    gaps="영상이 끊긴 시간",
    no_gaps="없습니다.",
    reason="원인",
    goes_on="진행 중",
    back="이벤트 목록으로",
    camera_states={
        "off": "꺼짐",
        "connecting": "연결 중",
        "streaming": "실시간",
        "waiting": "재연결 대기",
        "ended": "종료",
        "failed": "실패",
    },
    event_states={"new": "시작", "update": "진행 중", "end": "종료"},
    verdicts={"confirmed": "확인", "false_alarm": "오탐", "unsure": "불확실"},
    closings={
        "quiet": "조용해져 종료되었습니다.",
        "max_s": "최대 지속 시간에 도달해 종료되었습니다.",
        "gap": "영상이 끊겨 종료되었습니다.",
        "stop": "프로그램이 중지되어 종료되었습니다.",
        "restart": "비정상 종료로 열려 있다가 재시작할 때 종료되었습니다.",
    },
    rules={
        "enter": "임계값",
        "windows": "구간 수",
        "min_s": "최소 지속 시간",
        "zone": "구역",
        "schedule": "일정",
        "gap": "영상 끊김",
    },
    roles={"viewer": "열람", "reviewer": "검토", "admin": "관리자"},
    classes={"Fight": "싸움", "Fall": "넘어짐", "Falldown": "넘어짐", "Falling": "넘어짐"},
    stream_names={"pose": "자세", "movement": "움직임"},
)


def texts_for(chosen: str | None, accepted: str) -> Texts:
    """Return the texts of a language.

    Args:
        chosen: the language that the visitor chose, if any.
        accepted: the browser's ``Accept-Language``, which counts without a choice.

    """
    if chosen in {"en", "ko"}:
        return KOREAN if chosen == "ko" else ENGLISH
    for part in accepted.split(",")[:20]:
        language = part.partition(";")[0].strip().lower().partition("-")[0]
        if language in {"en", "ko"}:
            return KOREAN if language == "ko" else ENGLISH
    return ENGLISH
