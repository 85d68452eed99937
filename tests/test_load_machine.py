"""Any sequence of loads, cuts, replacements and deletions leaves what a model in memory says."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from stored import everything_of, exported, node_count

from cntgraph.database import connect
from cntgraph.database.connection import Connection

EPOCHS = (0, 1)


class Killed(BaseException):
    """Raised where the process would have been killed."""


class Loads(RuleBasedStateMachine):
    """One name in the database; two runs that differ in weights, of which one may bear it."""

    db = runs = clean = None

    def __init__(self):
        super().__init__()
        self.bearer = None  # which run has the name
        self.whole = set()  # its epochs that are complete
        self.begun = False  # whether anything of it may be there beside them

    @rule(which=st.sampled_from([0, 1]), epochs=st.sampled_from([(0,), (1,), EPOCHS]))
    def load(self, which, epochs):
        replace = self.begun and self.bearer != which
        self.db.load(self.runs[which], name="machine", epochs=epochs, replace=replace)
        self.whole = set(epochs) | (set() if replace else self.whole)
        self.bearer, self.begun = which, True

    @rule(at=st.integers(1, 16), before=st.booleans(), sessions=st.sampled_from([1, 2]))
    def killed_load(self, at, before, sessions):
        which = 0 if self.bearer is None else self.bearer
        try:
            with dying(at, before=before):
                self.db.load(self.runs[which], name="machine", sessions=sessions)
        except Killed:
            seen = "MATCH (x:Snapshot {run: 'machine', status: 'complete'}) RETURN x.epoch AS e"
            there = set(self.db.cypher(seen)["e"])
            assert there >= self.whole
            self.whole = there
        else:
            self.whole = set(EPOCHS)
        self.begun = "machine" in self.db.query("runs")["name"].tolist()
        self.bearer = which if self.begun else None

    @rule(at=st.integers(1, 8))
    def killed_delete(self, at):
        if not self.begun:
            return
        with contextlib.suppress(Killed), dying(at, before=False):
            self.db.delete("machine")
        if "machine" in self.db.query("runs")["name"].tolist():
            self.db.delete("machine")
        self.bearer, self.whole, self.begun = None, set(), False

    @invariant()
    def what_is_whole_is_as_a_clean_load_leaves_it(self):
        if self.begun and self.whole == set(EPOCHS):
            self.db.load(self.runs[self.bearer], name="machine")  # nothing, or what was left over
            assert everything_of(self.db, "machine") == self.clean[self.bearer]
        if not self.begun:
            assert node_count(self.db) == 0

    def teardown(self):
        if "machine" in self.db.query("runs")["name"].tolist():
            self.db.delete("machine")
        assert node_count(self.db) == 0


class dying:
    """Raise at a transaction, before it begins or after it is committed."""

    def __init__(self, at, *, before):
        self.at, self.before, self.patch = at, before, pytest.MonkeyPatch()

    def __enter__(self):
        real, calls = Connection._repeated, iter(range(1, 10_000))

        def counted(connection, access, work):
            here = next(calls) >= self.at  # and all that follow: a dead process does nothing more
            if here and self.before:
                raise Killed
            found = real(connection, access, work)
            if here:
                raise Killed
            return found

        self.patch.setattr(Connection, "_repeated", counted)

    def __exit__(self, *error):
        self.patch.undo()


@pytest.mark.neo4j
def test_loads_that_are_killed_replaced_and_deleted(server, tmp_path):
    with connect(server.uri, user=server.user, password=server.password) as db:
        for name in db.query("runs")["name"]:
            db.delete(name)
        Loads.db = db
        Loads.runs = exported(tmp_path / "one", "dense", 2), other(tmp_path / "two")
        Loads.clean = []
        for run in Loads.runs:
            db.load(run, name="machine")
            Loads.clean.append(everything_of(db, "machine"))
            db.delete("machine")
        few = settings(
            max_examples=4,
            stateful_step_count=6,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(Loads, settings=few)


def other(folder):
    """The same network with other weights."""
    import torch
    from models import build

    import cntgraph as cnt

    model, example = build("dense")
    torch.manual_seed(9)
    states = {
        epoch: {name: torch.randn_like(value) for name, value in model.state_dict().items()}
        for epoch in EPOCHS
    }
    return cnt.export(model, states, example, to=folder)
