"""Who a visitor is: sessions kept by the server, tokens against forged forms, login limits."""

import hashlib
import hmac
import ipaddress
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from recognizer.live.page.users import User, Users

LOGINS, LOGIN_PERIOD_S = 5, 60.0
_MAX_SESSIONS, _MAX_ADDRESSES, _LOGINS_AT_ONCE = 1000, 10_000, 4
_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{43}")
LOCAL_USER = User("local", "admin")
Clock = Callable[[], float]


class LoginLimitError(RuntimeError):
    """Too many logins of one address; ``wait_s`` says when the next is possible."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"expected at most {LOGINS} logins in {LOGIN_PERIOD_S:g} s")
        self.wait_s = wait_s


class LoginLimit:
    """Count the logins of each address, right or wrong."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._times: dict[str, deque[float]] = {}

    def count(self, address: str) -> None:
        """Count a login; of IPv6, a network of 64 bits counts as one address.

        Raises:
            LoginLimitError: one too many, which is not counted.

        """
        now_s, address = self._clock(), _counted(address)
        with self._lock:
            times = self._times.pop(address, deque())
            self._times[address] = times  # the latest address last
            while times and now_s - times[0] >= LOGIN_PERIOD_S:
                times.popleft()
            if len(times) >= LOGINS:
                raise LoginLimitError(LOGIN_PERIOD_S - (now_s - times[0]))
            times.append(now_s)
            if len(self._times) > _MAX_ADDRESSES:
                del self._times[next(iter(self._times))]


@dataclass(frozen=True, slots=True)
class _Session:
    user_name: str
    ends_s: float


class Access:
    """Sessions of users; without users everyone is the local administrator.

    Sessions and tokens end with the process.

    Args:
        users: who may log in; None: no login.
        session_s: how long a login lasts in seconds.
        clock: seconds, never falling.

    """

    def __init__(
        self, users: Users | None, session_s: float, clock: Clock = time.monotonic
    ) -> None:
        self.users = users
        self._session_s, self._clock = session_s, clock
        self._secret = secrets.token_bytes(32)
        self._sessions: dict[bytes, _Session] = {}
        self._lock = threading.Lock()
        self._limit = LoginLimit(clock)
        self._checking = threading.BoundedSemaphore(_LOGINS_AT_ONCE)

    def new_id(self) -> str:
        """Return the id of a new visitor."""
        return secrets.token_urlsafe(32)

    def is_id(self, text: str) -> bool:
        """Return whether a text has the form of a visitor's id."""
        return _SESSION_ID.fullmatch(text) is not None

    def token(self, session_id: str) -> str:
        """Return the token that every form of a visitor carries."""
        return hmac.new(self._secret, session_id.encode(), hashlib.sha256).hexdigest()

    def token_fits(self, session_id: str, token: str) -> bool:
        """Return whether a form comes from a page that this visitor was given."""
        return hmac.compare_digest(
            self.token(session_id).encode(), token.encode("utf-8", "replace")
        )

    def user_of(self, session_id: str) -> User | None:
        """Return who a visitor is, with the role of this moment; None: not logged in."""
        if self.users is None:
            return LOCAL_USER
        with self._lock:
            session = self._sessions.get(_key(session_id))
            if session is not None and self._clock() >= session.ends_s:
                del self._sessions[_key(session_id)]
                session = None
        return None if session is None else self.users.get(session.user_name)

    def log_in(self, name: str, password: str, address: str) -> str | None:
        """Return the id of a new session; None: no such user and password.

        Raises:
            LoginLimitError: too many logins from the address, or of all at once.

        """
        self._limit.count(address)
        if not self._checking.acquire(blocking=False):
            raise LoginLimitError(1.0)  # else many addresses together could stop all pages
        try:
            user = self.users.check(name, password) if self.users else LOCAL_USER
        finally:
            self._checking.release()
        if user is None:
            return None
        session_id = self.new_id()
        with self._lock:
            self._sessions[_key(session_id)] = _Session(user.name, self._clock() + self._session_s)
            if len(self._sessions) > _MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        return session_id

    def log_out(self, session_id: str) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(_key(session_id), None)

    def end_sessions(self, user_name: str) -> None:
        """End all sessions of a user, whose password changed or who was removed."""
        with self._lock:
            self._sessions = {
                key: session
                for key, session in self._sessions.items()
                if session.user_name != user_name
            }


def _counted(address: str) -> str:
    """Return what counts as one address: of IPv6 the network, which one visitor has to itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed), 64), strict=False))


def _key(session_id: str) -> bytes:
    """Return what is kept of an id: not the id itself."""
    return hashlib.sha256(session_id.encode()).digest()
