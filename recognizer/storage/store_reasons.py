"""Why an object store cannot be used, in a sentence without addresses, bodies and secrets."""

import os
import re

CHANGED = "the object has changed since it was listed; run again to read the new one"
_REFUSED = "the credentials in the environment are refused"
_NOT_PERMITTED = f"{_REFUSED}, or do not permit this"
_EXPIRED = "the credentials in the environment have expired; set new ones"
_REGION = (
    "the bucket is in another region or behind another endpoint; look at AWS_REGION and "
    "AWS_ENDPOINT_URL"
)
_NOT_REACHED = (
    "not reached, or it does not answer as a store; look at the endpoint (AWS_ENDPOINT_URL) and "
    "the network"
)
_ADVICE = {  # by the store's error code, then by the status
    "AccessDenied": _NOT_PERMITTED,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": _REFUSED,
    "AuthorizationHeaderMalformed": _REGION,
    "401": _REFUSED,
    "403": _NOT_PERMITTED,
    "404": "no such bucket or object",
    "412": CHANGED,
}
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>|\(code: (\w{1,64})\)")
_NO_LOCATION = "redirect without LOCATION"  # how S3 answers for a bucket of another region
_BAD_KEY = re.compile(
    r"(?:parsing |invalid path: |parse path: )Path (\".{0,1100}?\")[: ]", re.DOTALL
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def reason_of(error: Exception) -> str:
    """Return why the client failed, and what to look at."""
    text = str(error)
    key = _BAD_KEY.search(text)
    if key is not None:
        return (
            f"the key {key[1]} has an empty part, . or .. as a part, or a control character, which "
            "the client cannot address; rename the object, or name a prefix beside it"
        )
    if _NO_LOCATION in text:
        return _REGION
    status, code = _STATUS.search(text), _CODE.search(text)
    found = [one for match in (status, code) if match is not None for one in match.groups() if one]
    advice = next((_ADVICE[one] for one in reversed(found) if one in _ADVICE), _NOT_REACHED)
    return f"{advice} ({' '.join(found)})" if found else advice


def environment_problem() -> str:
    """Return which variable would end the client of S3 in a panic, not its value; "" if none."""
    for name, value in sorted(os.environ.items()):
        if name.startswith("AWS_") and _CONTROL.search(value):
            return (
                f"the environment variable {name} holds a control character, such as the end of a "
                "line; set it without"
            )
        is_endpoint = name.startswith("AWS_ENDPOINT_URL")
        if is_endpoint and value and not value.startswith(("http://", "https://")):
            return f"{name}: expected an address with http:// or https://"
    return ""
