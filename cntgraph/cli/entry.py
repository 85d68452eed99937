"""A command ends in one of a few ways, and each has its words and its exit status.

0 done, 2 usage, 3 input refused, 4 database, 5 partly done, 70 a bug, 130 and 143 after SIGINT
and SIGTERM. A signal unwinds the command as an exit does; what then still runs after a moment (a
call into C, a thread) is left where it is, for everything on disk survives that.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from cntgraph.cli import database, demo, doctor, measures, networks, queries, runs, server, shell
from cntgraph.cli.output import note, write
from cntgraph.errors import CntError, CntWarning, LoadInterrupted

__all__ = ["app", "main"]

_PATIENCE = 1.5  # seconds from a signal to the end, whatever runs
_RESUMING = ("demo", "export", "load")

app = typer.Typer(
    name="cntgraph",
    help="Trained PyTorch networks as weighted digraphs of neurons: strength, igraph, Neo4j.",
    epilog="Every verb but shell takes --json; cntgraph VERB --help says more.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text: a line a verb, and nothing that a narrow terminal breaks
    context_settings={"help_option_names": ["-h", "--help"]},
)
_db = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The Neo4j server of this machine."
)

_VERBS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "export": runs.export,
    "load": database.load,
    "query": queries.query,
    "queries": queries.queries,
    "layers": runs.layers,
    "measure": measures.measure,
    "measures": measures.measures,
    "compare": measures.compare,
    "graph": runs.graph,
    "verify": networks.verify,
    "inspect": networks.inspect,
    "doctor": doctor.doctor,
    "shell": shell.shell,
}
_SERVER_VERBS: dict[str, Callable[..., None]] = {
    "start": server.start,
    "stop": server.stop,
    "status": server.status,
    "reset": server.reset,
    "rebuild": server.rebuild,
    "dump": server.dump,
    "restore": server.restore,
}
for _name, _verb in _VERBS.items():
    app.command(_name)(_verb)
for _name, _verb in _SERVER_VERBS.items():
    _db.command(_name)(_verb)
app.add_typer(_db, name="db")


def _version(asked: bool) -> None:
    if asked:
        from cntgraph import __version__

        write(f"cntgraph {__version__}\n")
        raise typer.Exit


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of the command itself; `main` has read --debug wherever it stood."""


class Stopped(SystemExit):
    """A signal ended the command; its code is 128 and the number of the signal."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command with these arguments, or with those of the process, and exit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    _prepare_streams(debug=debug)
    _stop_on_signals()
    try:
        app([word for word in words if word != "--debug"], prog_name="cntgraph")
    except Stopped as stopped:
        resumes = words and words[0] in _RESUMING
        note("stopped" + ("; the same command goes on where it stopped" if resumes else ""))
        raise SystemExit(stopped.code) from None
    except LoadInterrupted as error:
        again = f"the same command goes on where it stopped: {shlex.join(['cntgraph', *words])}"
        _tell(str(LoadInterrupted(error.what, why=error.why, fix=again)), debug=debug)
        raise SystemExit(error.exit_status) from None
    except CntError as error:
        _tell(str(error), debug=debug)
        raise SystemExit(error.exit_status) from None
    except MemoryError:
        _tell("the memory of this machine does not suffice", debug=debug)
        raise SystemExit(3) from None
    except Exception as error:
        again = shlex.join(["cntgraph", "--debug", *words])
        _tell(
            f"{type(error).__name__}: {error}\n  why: this is a bug in cntgraph\n"
            f"  fix: report it with what this prints: {again}",
            debug=debug,
        )
        raise SystemExit(70) from None
    raise SystemExit(0)


def _tell(text: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    note(("\x1b[1;31merror:\x1b[0m " if coloured else "error: ") + text)


def _prepare_streams(*, debug: bool) -> None:
    """Names that the terminal cannot show are escaped; only warnings of ours are told."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    warnings.simplefilter("default" if debug else "ignore")
    warnings.simplefilter("always", CntWarning)
    told = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, CntWarning):
            note(f"note: {message}")
        else:
            told(message, category, *where, **more)

    warnings.showwarning = show


def _stop_on_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_insist, args=(reader,), daemon=True).start()


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(128 + number)


def _insist(reader: int) -> None:
    """End the process a moment after a signal, should the main thread not have done so."""
    (number,) = os.read(reader, 1)
    time.sleep(_PATIENCE)
    os._exit(128 + number)
