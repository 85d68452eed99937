"""A driver as this package sets it: no wait of its own outlives our patience."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import neo4j

__all__ = ["SECONDS", "Address", "dial"]

SECONDS = 5.0  # to connect
_HANDSHAKE = 3.0  # and, on top of it, to be greeted


@dataclass(frozen=True)
class Address:
    """Where the server is and who asks; its repr leaves the password out."""

    uri: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None

    @property
    def host(self) -> str:
        """Host and port as the URI has them."""
        return self.uri.partition("://")[2].partition("/")[0].partition("?")[0]


def dial(place: Address) -> neo4j.Driver:
    """A driver for the server, which has not spoken to it yet."""
    import neo4j

    login = None if place.user is None else (place.user, place.password or "")
    return neo4j.GraphDatabase.driver(
        place.uri,
        auth=login,
        connection_timeout=SECONDS,
        connection_acquisition_timeout=SECONDS + _HANDSHAKE,
        fetch_size=10_000,
        notifications_min_severity="OFF",
        telemetry_disabled=True,
        user_agent="cntgraph",
    )
