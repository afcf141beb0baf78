"""Which language a visitor reads."""

from recognizer.live.page.english import ENGLISH
from recognizer.live.page.korean import KOREAN
from recognizer.live.page.texts import Texts


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
