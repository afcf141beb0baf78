"""Users of the page and their passwords, in a small database of their own."""

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from recognizer.live.store_schema import store_errors

Role = Literal["viewer", "reviewer", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)  # each may do what those before it may
UserProblem = Literal["name", "role", "password", "hash", "last_admin"]
MIN_PASSWORD, MAX_PASSWORD, MAX_NAME = 8, 1024, 64
_HASH, _TO_WRITE = "$argon2", "BEGIN IMMEDIATE"
_TABLE = """CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, hash TEXT NOT NULL) STRICT"""


@dataclass(frozen=True, slots=True)
class User:
    """A user and what that user may do."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Return whether the user has a role or one above it."""
        return ROLES.index(self.role) >= ROLES.index(role)


class UserError(ValueError):
    """A user that cannot be; ``problem`` says why, for a message in another language."""

    def __init__(self, problem: UserProblem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


class Users:
    """The users' database; only its owner may read the file.

    Args:
        path: the file; made where there is none.

    Raises:
        StoreError: of any kind.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._hasher = PasswordHasher()
        # One hash at a time: each takes 64 MiB.
        self._hashing, self._lock = threading.Lock(), threading.Lock()
        self._absent = self._hasher.hash(os.urandom(16))
        with store_errors(path):
            try:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            except OSError as error:
                raise sqlite3.OperationalError(str(error)) from error
            with self._db() as db:
                db.execute(_TABLE)

    def all(self) -> tuple[User, ...]:
        """Return all users by name."""
        with self._db() as db:
            rows = db.execute("SELECT name, role FROM users ORDER BY name").fetchall()
        return tuple(User(name, _role(role)) for name, role in rows)

    def get(self, name: str) -> User | None:
        """Return a user; None: no such user."""
        with self._db() as db:
            row = db.execute("SELECT name, role FROM users WHERE name = ?", (name,)).fetchone()
        return None if row is None else User(row[0], _role(row[1]))

    def put(self, name: str, role: str, password: str) -> None:
        """Add a user or change one.

        Args:
            name: 1 to 64 visible characters.
            role: viewer, reviewer or admin.
            password: 8 to 1024 characters, or an argon2 hash of one.

        Raises:
            UserError: another name, role or password, or a change of the only administrator's
                role.

        """
        if not name.isprintable() or not 1 <= len(name.strip()) <= MAX_NAME:
            raise UserError("name", f"name: expected 1 to {MAX_NAME} visible characters")
        hashed = self._hash(password)
        kept = _role(role)
        with self._db(_TO_WRITE) as db:
            if kept != "admin":
                _keep_an_admin(db, name)
            db.execute("INSERT OR REPLACE INTO users VALUES (?, ?, ?)", (name, kept, hashed))

    def remove(self, name: str) -> None:
        """Remove a user.

        Raises:
            UserError: the only administrator.

        """
        with self._db(_TO_WRITE) as db:
            _keep_an_admin(db, name)
            db.execute("DELETE FROM users WHERE name = ?", (name,))

    def put_first(self, name: str, secret: str) -> None:
        """Give the administrator of the config its password, if it has another."""
        user = self.get(name)
        if user is None or user.role != "admin" or not self._has(name, secret):
            self.put(name, "admin", secret)

    def check(self, name: str, password: str) -> User | None:
        """Return the user of a name and password; None: they do not fit.

        An unknown name takes as long as a known one.
        """
        with self._db() as db:
            row = db.execute("SELECT hash FROM users WHERE name = ?", (name,)).fetchone()
        fits = self._verify(self._absent if row is None else row[0], password[:MAX_PASSWORD])
        return self.get(name) if fits and row is not None else None

    def _has(self, name: str, secret: str) -> bool:
        with self._db() as db:
            row = db.execute("SELECT hash FROM users WHERE name = ?", (name,)).fetchone()
        return bool(row[0] == secret if secret.startswith(_HASH) else self._verify(row[0], secret))

    def _verify(self, hashed: str, password: str) -> bool:
        with self._hashing:
            try:
                return self._hasher.verify(hashed, password.encode("utf-8", "surrogatepass"))
            except (VerificationError, InvalidHashError):
                return False

    def _hash(self, password: str) -> str:
        if password.startswith(_HASH):
            try:
                self._hasher.check_needs_rehash(password)
            except InvalidHashError as error:
                raise UserError("hash", "password: expected a whole argon2 hash") from error
            return password
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            raise UserError(
                "password", f"password: expected {MIN_PASSWORD} to {MAX_PASSWORD} characters"
            )
        with self._hashing:
            return self._hasher.hash(password.encode("utf-8", "surrogatepass"))

    @contextlib.contextmanager
    def _db(self, begin: str = "BEGIN") -> Iterator[sqlite3.Connection]:
        with self._lock, store_errors(self._path):
            db = sqlite3.connect(self._path, timeout=5.0, isolation_level=None)
            try:
                db.execute(begin)
                yield db
                db.execute("COMMIT")
            finally:
                db.close()  # without COMMIT nothing is kept


def _keep_an_admin(db: sqlite3.Connection, name: str) -> None:
    rows = db.execute("SELECT name FROM users WHERE role = 'admin'").fetchall()
    if rows == [(name,)]:
        raise UserError(
            "last_admin", f"{name}: expected an administrator to stay, this is the only one"
        )


def _role(text: str) -> Role:
    for role in ROLES:
        if text == role:
            return role
    raise UserError("role", f"role: expected {', '.join(ROLES)}, got {text[:40]!r}")
