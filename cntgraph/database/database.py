"""A server of Neo4j with runs in it: loading, deleting, and reading without a way to write."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cntgraph.database.answering import answer
from cntgraph.database.connection import Connection, address, reach
from cntgraph.database.content import Content
from cntgraph.database.evaluating import evaluate
from cntgraph.database.load import SESSIONS, LoadReport, Progress, load
from cntgraph.database.planning import LoadPlan, complete_epochs, load_plan
from cntgraph.database.queries import Library
from cntgraph.database.reading import Limits, admit, read
from cntgraph.database.removal import remove_run
from cntgraph.database.verifying import verify
from cntgraph.errors import CntWarning

if TYPE_CHECKING:
    import pandas as pd

    from cntgraph.runs import Run

__all__ = ["Database", "connect"]


def connect(
    uri: str | None = None,
    *,
    user: str | None = None,
    password: str | None = None,
    database: str | None = None,
) -> Database:
    """A connection to Neo4j, tried before it is returned.

    What is not given comes from NEO4J_URI, NEO4J_USERNAME, NEO4J_PASSWORD and NEO4J_DATABASE;
    where there is no URI either, it is this machine's own server, fetched and started on first
    use.

    >>> with connect() as db:                                          # doctest: +SKIP
    ...     db.load("runs/lenet")
    ...     db.query("strong_neurons", run="lenet", epoch=9)

    Raises `InputRefused` for a URI that cannot be one, and `DatabaseError` within ten seconds
    where no server answers or lets the user in.
    """
    return Database(reach(address(uri, user=user, password=password, database=database)))


@dataclass(frozen=True)
class Database:
    """Runs in Neo4j; made by `connect`, used as a context manager."""

    connection: Connection = field(repr=False)
    limits: Limits = field(default_factory=Limits)
    library: Library = field(default_factory=Library, repr=False)

    def __repr__(self) -> str:
        place = self.connection.place
        return f"<Database {place.uri}{f' {place.database}' if place.database else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.connection.driver.close()

    @property
    def uri(self) -> str:
        """Where the server is, without user and password."""
        return self.connection.place.uri

    def load(
        self,
        run_or_path: Run | str | os.PathLike[str],
        *,
        epochs: Iterable[int] | None = None,
        links: str = "all",
        replace: bool = False,
        name: str | None = None,
        sessions: int = SESSIONS,
        progress: Progress | None = None,
    ) -> LoadReport:
        """Write a run, or some epochs of it, into the database.

        ``links`` says which links are written: ``"all"``, ``"top:K"`` per neuron,
        ``"backbone:ALPHA"`` (see `Network.filtered`) or ``"none"``; strengths are those of all
        links, always. What is there already is not written again, and a load that was cut goes on
        where it stopped. ``sessions`` epochs are loaded side by side. ``progress`` is called with
        the links written and the links to write, by one thread at a time.

        >>> db.load("runs/lenet", epochs=[0, 9])                       # doctest: +SKIP
        LoadReport(neurons=3268, links=834600, epochs=(0, 9), skipped=(), seconds=11.2, kept=1.0)

        Raises `InputRefused` where another run has that name, unless ``replace``: then what the
        database holds of the run goes first. Raises `LoadInterrupted` where the server is lost.
        """
        return load(
            self.connection,
            _content(run_or_path, name),
            epochs,
            links,
            replace=replace,
            sessions=sessions,
            progress=progress,
        )

    def load_plan(
        self,
        run_or_path: Run | str | os.PathLike[str],
        *,
        epochs: Iterable[int] | None = None,
        links: str = "all",
        name: str | None = None,
    ) -> LoadPlan:
        """What `load` would write of what is not there yet; nothing is written.

        >>> db.load_plan("runs/lenet", epochs=[0, 9])                  # doctest: +SKIP
        LoadPlan(run='lenet', epochs=(9,), skipped=(0,), neurons=1634, links=417300, ...)
        """
        content = _content(run_or_path, name)
        there = complete_epochs(self.connection, content.name)
        return load_plan(content, epochs, links, there=there)

    def verify(
        self,
        run_or_path: Run | str | os.PathLike[str],
        *,
        epochs: Iterable[int] | None = None,
        name: str | None = None,
        samples: int = 3,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Whether loaded epochs compute in the database what the run's own network computes.

        A row per epoch: epoch, passed, error (the largest difference between two outputs),
        largest_output, samples. Inputs are random, the same for the same ``seed``; both sides
        compute in float64.

        >>> db.verify("runs/lenet", epochs=[9])                        # doctest: +SKIP

        Raises `InputRefused` like `evaluate`, and for a run without weights.
        """
        return verify(self.connection, _content(run_or_path, name), epochs, samples, seed)

    def delete(self, run_or_name: Run | str) -> None:
        """Remove a run: its layers, neurons, epochs and links, and nothing else."""
        remove_run(
            self.connection, run_or_name if isinstance(run_or_name, str) else run_or_name.name
        )

    def within(self, *, seconds: float | None = 30.0, rows: int | None = 10_000) -> Database:
        """The same database with other limits for what is read; None is no limit.

        >>> db.within(seconds=300, rows=None).query("runs")            # doctest: +SKIP
        """
        return replace(self, limits=Limits(seconds, rows))

    def with_queries(self, folder: str | os.PathLike[str]) -> Database:
        """The same database with queries of your own beside the library's.

        In the folder every ``NAME.cypher`` is one. Its comments say what it asks, its parameters
        and its columns, as those of ours do: ``cntgraph queries --show strong_neurons`` prints
        one. A query of yours takes the place of ours of the same name, with a warning; it is held
        to reading as `cypher` is.

        >>> mine = db.with_queries("my-queries/")                      # doctest: +SKIP
        >>> mine.query("my_question", run="lenet", epoch=9)            # doctest: +SKIP

        Raises `InputRefused` for a folder without queries, and for a header that cannot be read,
        with its file and line.
        """
        library = Library(Path(folder).expanduser())
        if replaced := library.replaced:
            warnings.warn(
                f"{', '.join(replaced)}: {folder} has one of its own, the library's is not asked",
                CntWarning,
                stacklevel=2,
            )
        return replace(self, library=library)

    def query(self, name: str, /, **parameters: Any) -> pd.DataFrame:
        """The answer of a query of the library, `queries` lists them.

        >>> db.query("strong_neurons", run="lenet", epoch=9, top=5)    # doctest: +SKIP

        Raises `InputRefused` for a query, parameter, run or epoch that is not there.
        """
        return answer(self.connection, self.library, name, parameters, self.limits)

    def cypher(self, text: str, /, **parameters: Any) -> pd.DataFrame:
        """The rows of a query of your own, which may read this database and nothing else.

        >>> db.cypher("MATCH (r:Run) RETURN r.name AS name")           # doctest: +SKIP

        After 30 s it is ended, after 10,000 rows it is cut, with a warning and
        ``attrs["truncated"]``; `within` sets other limits. Raises `DatabaseError` where the query
        is refused or fails.
        """
        admit(self.connection, text, parameters, self.limits)
        return read(self.connection, text, parameters, self.limits)

    def evaluate(self, run: Run | str, epoch: int, inputs: Any) -> pd.DataFrame:
        """The network's outputs for a batch of inputs, computed layer by layer in Cypher.

        ``inputs`` is (batch, ...) of the shape the network was traced with, as an array or tensor;
        a tuple of them where the network has several inputs. A row per sample and a column
        ``layer[index]`` per output neuron, in float64. What takes part is what the database holds:
        LINK and CARRIES, bias, batch norm and activation of dense, convolutional, pooling and
        residual networks; all links of the epoch must be loaded.

        >>> db.evaluate("lenet", 9, images)                            # doctest: +SKIP

        The same images at two epochs, or in two runs; which of them changed class:

        >>> first = db.evaluate("lenet", 0, images)                    # doctest: +SKIP
        >>> last = db.evaluate("lenet", 9, images)                     # doctest: +SKIP
        >>> last - first                                               # doctest: +SKIP
        >>> first.to_numpy().argmax(1) != last.to_numpy().argmax(1)    # doctest: +SKIP

        Raises `InputRefused` where the epoch is not there or not with all its links, where the
        inputs have another shape, and where a layer has no formula in the graph (attention).
        """
        return evaluate(self.connection, run if isinstance(run, str) else run.name, epoch, inputs)

    def queries(self) -> pd.DataFrame:
        """The library: name, title, parameters, columns."""
        return self.library.listing()


def _content(run_or_path: Run | str | os.PathLike[str], name: str | None) -> Content:
    from cntgraph.runs import Run, open_run

    run = run_or_path if isinstance(run_or_path, Run) else open_run(run_or_path)
    return Content(run, run.name if name is None else name)
