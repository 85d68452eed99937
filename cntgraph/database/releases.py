"""The releases of Neo4j that the local server comes in, each pinned, with what running it takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cntgraph.errors import InputRefused, did_you_mean

__all__ = ["LATEST", "RELEASES", "VERSION", "Release", "find_release"]


@dataclass(frozen=True)
class Release:
    """One release: what people call it, its version, and what running it takes."""

    name: str
    version: str
    java: tuple[int, ...]
    main: str
    folder: str  # of its data, one for each release: no server meets a store of another
    settings: tuple[str, ...]  # those that other releases do not know, and would not start with

    @property
    def title(self) -> str:
        """What is fetched and started, in words."""
        return f"Neo4j Community {self.version}"

    @property
    def lock(self) -> Path:
        """The file that pins its jars."""
        return Path(__file__).with_name(f"neo4j-{self.version}.lock")


LATEST = Release(
    "2026.08",
    "2026.08.1",
    (21, 22, 23, 24, 25),
    "org.neo4j.server.Neo4jCommunity",
    "neo4j",
    (
        "server.fleet_discovery.enabled=false",
        "internal.dbms.bolt.netty_server_shutdown_quiet_period_duration=0s",
    ),
)
RELEASES = (
    LATEST,
    Release(
        "5.26",
        "5.26.30",
        (17, 21),
        "org.neo4j.server.CommunityEntryPoint",
        "neo4j-5.26",
        ("internal.dbms.bolt.netty_server_shutdown_quiet_period=0",),
    ),
)
VERSION = LATEST.version


def find_release(asked: str) -> Release:
    """The release of that name, or of that version.

    >>> find_release("5.26").version
    '5.26.30'

    Raises `InputRefused` for one that is not pinned here.
    """
    for release in RELEASES:
        if asked in (release.name, release.version):
            return release
    raise InputRefused(
        f"there is no Neo4j {asked!r} for the local server",
        why=did_you_mean(asked, (release.name for release in RELEASES)),
        fix="cntgraph db start --neo4j 5.26, or set NEO4J_URI to a server of that version",
    )
