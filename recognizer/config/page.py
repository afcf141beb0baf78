"""The config's section on the page of live detection."""

import ipaddress
from typing import Annotated, Self

from pydantic import Field, model_validator

from recognizer.config.alerts import SecretConfig
from recognizer.config.types import PlainName, Section


class PageConfig(Section):
    """The page: where it listens, who may see it, and how long a login lasts.

    ``password`` is that of the first administrator, as text or as an argon2 hash; without one,
    which only a loopback address may be, every visitor is an administrator. ``behind_tls`` is for a
    proxy with TLS before the page: browsers then send the cookie by HTTPS alone.
    """

    enabled: bool = True
    host: Annotated[str, Field(min_length=1, max_length=253)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8740
    admin: PlainName = "admin"
    password: SecretConfig | None = None
    session_hours: Annotated[float, Field(gt=0, le=24 * 365)] = 12.0
    metrics_token: SecretConfig | None = None
    behind_tls: bool = False
    skeleton_only: bool = True

    @model_validator(mode="after")
    def _check_password(self) -> Self:
        if self.password is None and not self.is_loopback:
            raise ValueError(
                f"host: expected a loopback address such as 127.0.0.1 without a password, got "
                f"{self.host!r}; set password.env or password.file, or listen on 127.0.0.1"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False  # a name, which may mean any address
