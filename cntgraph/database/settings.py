"""The settings of the local server: it listens to this machine alone and opens nothing for a query.

They are written anew at every start, from what the start was asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cntgraph.database.releases import Release
from cntgraph.errors import InputRefused

__all__ = ["Options", "settings"]

# keys that a release does not know keep it from starting: those of its own come from `Release`
_SETTINGS = """\
server.default_listen_address=127.0.0.1
server.bolt.listen_address=127.0.0.1:{port}
server.bolt.advertised_address=127.0.0.1:{port}
server.http.enabled=false
server.https.enabled=false
server.memory.heap.max_size={heap}
server.memory.pagecache.size={page_cache}
db.tx_log.preallocate=false
db.tx_log.rotation.retention_policy=256M size
dbms.usage_report.enabled=false
client.allow_telemetry=false
dbms.security.allow_csv_import_from_file_urls=false
internal.dbms.cypher_ip_blocklist=0.0.0.0/0,::/0
dbms.security.procedures.allowlist={procedures}
"""
_PROCEDURES = "db.*,dbms.*"
# from the number of a node to the node: the one function of ours that looks at the store itself
_GDS = "dbms.security.procedures.unrestricted=gds.util.asNode\n"


@dataclass(frozen=True)
class Options:
    """What a start is asked for: memory, and Graph Data Science."""

    heap: str = "1g"
    page_cache: str = "512m"
    gds: bool = False

    def __post_init__(self) -> None:
        for name in ("heap", "page_cache"):
            text = getattr(self, name)
            if not isinstance(text, str) or not re.fullmatch("[1-9][0-9]*[kmgKMG]", text):
                raise InputRefused(
                    f"{name}={text!r} is not a size of memory",
                    why="Java reads a whole number followed by k, m or g",
                    fix=f'{name}="1g"',
                )

    @classmethod
    def holding(cls, size: int) -> Options:
        """The memory of a server whose page cache holds so many bytes of data, with some air.

        >>> Options.holding(3_000_000_000).memory
        'a heap of 1g and a page cache of 3584m'
        """
        steps = -(-size * 6 // 5 // (512 << 20))  # of 512 MiB, rounded up
        return cls(heap="2g" if steps > 8 else "1g", page_cache=f"{512 * max(1, steps)}m")

    @property
    def memory(self) -> str:
        """In words."""
        return f"a heap of {self.heap} and a page cache of {self.page_cache}"


def settings(release: Release, port: int, options: Options) -> str:
    """The text of neo4j.conf."""
    text = _SETTINGS.format(
        port=port,
        heap=options.heap,
        page_cache=options.page_cache,
        procedures=f"{_PROCEDURES},gds.*" if options.gds else _PROCEDURES,
    )
    own = "".join(f"{line}\n" for line in release.settings)
    return text + own + (_GDS if options.gds else "")
