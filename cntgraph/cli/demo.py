"""The verb that goes the whole way on real data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cntgraph.cli.networks import Json
from cntgraph.cli.output import note, print_json, records, table, write

__all__ = ["demo"]


def demo(
    folder: Annotated[Path, typer.Option("--dir", help="Where the run folders go.")] = Path(
        "runs/demo"
    ),
    json: Json = False,
) -> None:
    """Train, record, load, query and draw on real digits: no set-up.

    Two networks learn in two minutes, every epoch is exported and loaded into a real Neo4j,
    three questions are asked, strengths are compared with igraph's, a figure is drawn. The first
    time, Neo4j is fetched (some 150 MB); NEO4J_URI names another server.
    """
    from cntgraph import demo as whole

    done = whole.demo(folder, say=note)
    if json:
        asked = {
            answer.name: {
                "parameters": answer.parameters,
                "columns": list(answer.rows.columns),
                "rows": records(answer.rows),
            }
            for answer in done.answers
        }
        print_json(
            {
                "run": str(done.runs[0]),
                "runs": [str(path) for path in done.runs],
                "queries": asked,
                "figure": str(done.figure),
                "igraph_agrees": done.agreement.agrees,
                "epochs": done.agreement.epochs,
                "strengths": done.agreement.strengths,
                "largest_difference": done.agreement.largest_difference,
                "seconds": done.seconds,
            }
        )
        return
    for answer in done.answers:
        write(f"\n{answer.title}\n  {answer.command}\n\n")
        table(answer.rows)
    note(f"done in {done.seconds:.0f} s")
    write(f"\n{done.agreement}\n{done.figure}: strength by layer over the epochs\n")
    write(_NEXT.format(run=done.runs[0]))


_NEXT = """
Try next
  cntgraph query strong_paths run=demo-mlp epoch=10 top=5
  cntgraph graph {run} --epoch last --to mlp.graphml
  cntgraph export my.py:model checkpoints/ --input 1,28,28 --to runs/my --load
"""
