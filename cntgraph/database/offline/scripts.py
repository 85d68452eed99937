"""What goes with the files to a server elsewhere: scripts that import them, and how to use them."""

from __future__ import annotations

from cntgraph.database.jars import VERSION
from cntgraph.database.offline.graph import Graph
from cntgraph.database.offline.importer import files_of

__all__ = ["docker_script", "import_script", "readme"]

_OPTIONS = "--input-type=parquet --id-type=integer --bad-tolerance=0 --strict"

_IMPORT = """\
#!/bin/sh
# Makes a database of the files beside this script: sh import.sh NEO4J_HOME [DATABASE] [OPTION...]
# The server (of that database) must not run. A database that is there is left alone, unless the
# option --overwrite-destination says that all it holds is to go.
set -eu
case "${1:-}" in
  '' | -*) echo "usage: sh import.sh NEO4J_HOME [DATABASE] [OPTION...]" >&2; exit 2 ;;
esac
neo4j=$(cd "$1" && pwd)
shift
database=neo4j
case "${1:-}" in
  '' | -*) ;;
  *) database=$1; shift ;;
esac
cd "$(dirname "$0")"
if command -v sha256sum >/dev/null; then
  sha256sum --check --quiet SHA256SUMS
fi
exec "$neo4j/bin/neo4j-admin" database import full "$database" "$@" \\
  {arguments}
"""

_DOCKER = """\
#!/bin/sh
# Makes a database of the files beside this script in the data of a container:
#   sh import-docker.sh DATA [DATABASE] [OPTION...]
# DATA is the name of a volume or the path of a folder that the container has at /data; the
# container must not run. NEO4J_IMAGE is the image, by default {image}.
# A database that is there is left alone, unless the option --overwrite-destination says that all
# it holds is to go.
set -eu
case "${{1:-}}" in
  '' | -*) echo "usage: sh import-docker.sh DATA [DATABASE] [OPTION...]" >&2; exit 2 ;;
esac
data=$1
shift
case "${{1:-}}" in
  '' | -*) set -- neo4j "$@" ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
exec docker run --rm --volume "$data:/data" --volume "$here:/import:ro" \\
  "${{NEO4J_IMAGE:-{image}}}" sh /import/import.sh /var/lib/neo4j "$@"
"""

_README = """\
# A graph for Neo4j

{what}

The files are Parquet, for Neo4j's own importer (`neo4j-admin database import`, Neo4j 5.26 or
newer; made for and tried with {version}). `manifest.json` says what they hold, `SHA256SUMS` how
they hash.

1. Stop the server: the importer writes its files, and makes the whole database anew.
2. Import. From a tarball or a package: `sh import.sh /path/to/neo4j`. In a container:
   `sh import-docker.sh VOLUME`. The database is `neo4j`; another name goes behind the path.
   What is in a database already goes only with `--overwrite-destination`.
3. Start the server.
4. `cypher-shell -f post-import.cypher`: constraints, indexes, what was recorded of the epochs, and
   a check of every epoch. Until then no query of cntgraph sees one. Every row must end in
   `complete`.

Then `cntgraph query`, and `cntgraph load` for further epochs, work as after any load.
"""


def import_script(graph: Graph) -> str:
    """The script for a Neo4j that is installed."""
    return _IMPORT.replace("{arguments}", " \\\n  ".join([_OPTIONS, *files_of(graph)]))


def docker_script() -> str:
    """The script for a Neo4j in a container."""
    return _DOCKER.format(image=f"neo4j:{VERSION}")


def readme(what: str) -> str:
    """How a person gets the graph into a server; ``what`` is in a sentence of its own."""
    return _README.format(what=what, version=VERSION)
