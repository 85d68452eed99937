"""What the tests of the database share: runs to load, and what is there afterwards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from models import build

import cntgraph as cnt
from cntgraph.database import Library
from cntgraph.network import LINK_KINDS

# one row of lists: a record each would cost the driver more than the query costs the server
LINKS = """
MATCH (s:NeuronState {run: $run, epoch: $epoch})-[k:LINK|CARRIES]->(t:NeuronState)
RETURN collect(s.neuron) AS source, collect(t.neuron) AS target,
       collect(coalesce(k.kind, 'weight')) AS kind, collect(k.weight) AS weight
"""
STATES = (
    "MATCH (n:NeuronState {run: $run, epoch: $epoch}) RETURN properties(n) AS n ORDER BY n.neuron"
)


def exported(folder, kind, epochs=1, **options):
    """A run of a model of the zoo, every epoch with weights of its own."""
    model, example = build(kind)
    states = {}
    for epoch in range(epochs):
        torch.manual_seed(100 + epoch)
        states[epoch] = {
            key: torch.randn_like(value) if value.is_floating_point() else value
            for key, value in model.state_dict().items()
        }
        for key, value in states[epoch].items():
            if key.endswith("running_var"):
                value.abs_().add_(0.5)
    return cnt.export(model, states, example, to=folder, **options)


def unlimited(db):
    return db.within(seconds=120, rows=None)


def rows_of(links):
    """Links in an order that does not depend on where they come from."""
    return links.sort_values(["source", "target", "kind", "weight"]).reset_index(drop=True)


def links_sent(network, kinds=LINK_KINDS):
    blocks = [b.name for b in network.carrying_blocks(kinds) if b.certain]
    batches = [batch.to_pandas() for b in blocks for batch in network.links(kinds, block=b)]
    return rows_of(pd.concat(batches)[["source", "target", "kind", "weight"]])


def links_there(db, run, epoch):
    (lists,) = unlimited(db).cypher(LINKS, run=run, epoch=epoch).to_dict("records")
    return rows_of(pd.DataFrame(lists))


def states_there(db, run, epoch):
    return pd.DataFrame(unlimited(db).cypher(STATES, run=run, epoch=epoch)["n"].tolist())


def assert_same_bits(found, expected):
    np.testing.assert_array_equal(
        found["weight"].to_numpy(dtype="float64").view(np.int64),
        expected["weight"].to_numpy(dtype="float64").view(np.int64),
    )


def everything_of(db, run):
    """All that a database holds of a run, but for the ids, which depend on when it was loaded."""
    nodes = unlimited(db).cypher(
        """
        MATCH (n) WHERE n.run = $run OR (n:Run AND n.name = $run)
        RETURN labels(n)[0] AS label, properties(n) AS properties, COUNT { (n)--() } AS degree
        """,
        run=run,
    )
    moving = {"id", "first", "first_layer", "first_neuron"}
    counted = sorted(
        (
            row.label,
            row.degree,
            sorted((k, str(v)) for k, v in row.properties.items() if k not in moving),
        )
        for row in nodes.itertuples()
    )
    epochs = db.cypher("MATCH (x:Snapshot {run: $run}) RETURN x.epoch AS e ORDER BY e", run=run)[
        "e"
    ]
    return counted, [links_there(db, run, epoch).to_numpy().tolist() for epoch in epochs]


def answers(db, given):
    """The rows of every query of the library, for these values where it has no defaults."""
    found = {}
    for name, query in Library().queries.items():
        values = {p.name: given[p.name] for p in query.parameters if p.required}
        found[name] = unlimited(db).query(name, **values)
    return found


def node_count(db):
    return db.cypher("MATCH (n) RETURN count(n) AS n")["n"].item()
