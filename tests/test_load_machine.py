"""Any sequence of exports, loads, kills, replacements and deletions leaves what a model says."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from models import build
from stored import everything_of, node_count

import cntgraph as cnt
from cntgraph.database import connect
from cntgraph.database.connection import Connection
from cntgraph.runs.writing import origin, writing

EPOCHS = (0, 1)
WHICH = st.sampled_from([0, 1])
CHOSEN = st.sampled_from([(0,), (1,), EPOCHS])
COMPLETE = "MATCH (x:Snapshot {run: 'machine', status: 'complete'}) RETURN x.epoch AS epoch"


class Killed(BaseException):
    """Raised where the process would have been killed."""


class Exports:
    """One network with two sets of weights, and a folder for the run of each."""

    def __init__(self, base):
        self.base = base
        model, example = build("dense")
        self.network = cnt.trace(model, example)
        self.origin = origin(self.network, model, ())

    def folder(self, which):
        return self.base / f"run {which}"

    def write(self, which, epochs):
        with writing(self.folder(which), self.origin, name="machine", replace=False) as writer:
            for epoch in epochs:
                torch.manual_seed(10 * which + epoch)
                weights = {n: torch.randn_like(t) for n, t in self.network.weights.items()}
                writer.write(epoch, self.network.bound_to(weights), {"loss": 1 / (1 + epoch)})
            writer.finish()

    def listed(self, which):
        """The epochs of the run, every byte of them checked; none where it is not one yet."""
        try:
            run = cnt.open_run(self.folder(which))
        except cnt.InputRefused:
            return set()
        assert run.check().epochs == len(run.epochs)
        return set(run.epochs["epoch"])


class Machine(RuleBasedStateMachine):
    """Two runs that differ in weights may be exported; one of them bears a name in the database."""

    db = exports = clean = None

    def __init__(self):
        super().__init__()
        self.exported = [set(), set()]  # the epochs of each run
        self.begun = [set(), set()]  # those that somebody began to export
        self.bearer = None  # which run has the name
        self.whole = set()  # its epochs that are complete
        self.torn = False  # whether there may be something of it beside them

    # -- folders

    @rule(which=WHICH, epochs=CHOSEN)
    def export(self, which, epochs):
        self.exports.write(which, epochs)
        self.look(which, epochs)
        assert self.exported[which] >= set(epochs)

    @rule(which=WHICH, epochs=CHOSEN, at=st.integers(1, 24))
    def killed_export(self, which, epochs, at):
        with contextlib.suppress(Killed), dying_on_disk(at):
            self.exports.write(which, epochs)
        self.look(which, epochs)

    def look(self, which, epochs):
        """No epoch is lost; one that a killed export finished is listed by the next."""
        self.begun[which] |= set(epochs)
        there = self.exports.listed(which)
        assert self.exported[which] <= there <= self.begun[which]
        self.exported[which] = there

    # -- the database

    def run(self, which):
        return cnt.open_run(self.exports.folder(which))

    @precondition(lambda self: any(self.exported))
    @rule(which=WHICH, epochs=CHOSEN)
    def load(self, which, epochs):
        if not set(epochs) <= self.exported[which]:
            return
        replace = self.bearer not in (None, which)
        self.db.load(self.run(which), epochs=epochs, replace=replace)
        kept = set() if replace else self.whole
        self.torn = self.torn and not replace and set(epochs) != set(EPOCHS)
        self.bearer, self.whole = which, kept | set(epochs)

    @precondition(lambda self: any(self.exported))
    @rule(
        which=WHICH,
        at=st.integers(1, 16),
        before=st.booleans(),
        sessions=st.sampled_from([1, 2]),
    )
    def killed_load(self, which, at, before, sessions):
        which = which if self.bearer is None else self.bearer
        if not self.exported[which]:
            return
        try:
            with dying(at, before=before):
                self.db.load(self.run(which), sessions=sessions)
        except Killed:
            there = set(self.db.cypher(COMPLETE)["epoch"])
            assert there >= self.whole
            self.whole, self.torn = there, True
        else:
            self.whole |= self.exported[which]
            self.torn = self.torn and self.exported[which] != set(EPOCHS)
        self.bearer = which if self.there else None

    @precondition(lambda self: self.bearer is not None)
    @rule(at=st.integers(1, 8))
    def killed_delete(self, at):
        with contextlib.suppress(Killed), dying(at, before=False):
            self.db.delete("machine")
        if self.there:
            self.db.delete("machine")
        self.bearer, self.whole, self.torn = None, set(), False

    @property
    def there(self):
        return "machine" in self.db.query("runs")["name"].tolist()

    @invariant()
    def what_is_there_is_as_a_clean_load_leaves_it(self):
        if self.bearer is None:
            assert node_count(self.db) == 0
        elif self.whole and not self.torn:
            clean = self.clean[self.bearer, tuple(sorted(self.whole))]
            assert everything_of(self.db, "machine") == clean

    def teardown(self):
        if self.there:
            self.db.delete("machine")
        assert node_count(self.db) == 0
        for which in (0, 1):
            shutil.rmtree(self.exports.folder(which), ignore_errors=True)


class dying:
    """Raise at a transaction, before it begins or after it is committed."""

    def __init__(self, at, *, before):
        self.at, self.before, self.patch = at, before, pytest.MonkeyPatch()

    def __enter__(self):
        real, calls = Connection._repeated, itertools.count(1)

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


@contextlib.contextmanager
def dying_on_disk(at):
    """Raise at a change of the disk; nothing is changed or tidied up any more, as after a death."""
    calls, handles = itertools.count(1), set()

    def until_death(real):
        def change(*given, **named):
            if next(calls) >= at:
                raise Killed
            return real(*given, **named)

        return change

    def opened(*given, real=os.open, **named):
        handles.add(handle := real(*given, **named))
        return handle

    def closed(handle, real=os.close):
        handles.discard(handle)
        real(handle)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir"):
            patch.setattr(os, name, until_death(getattr(os, name)))
        patch.setattr(os, "open", opened)
        patch.setattr(os, "close", closed)
        try:
            yield
        finally:
            for handle in list(handles):  # and with them the locks
                closed(handle)


@pytest.mark.neo4j
def test_exports_and_loads_that_are_killed_replaced_and_deleted(server, tmp_path):
    with connect(server.uri, user=server.user, password=server.password) as db:
        for name in db.query("runs")["name"]:
            db.delete(name)
        Machine.db, Machine.exports, Machine.clean = db, Exports(tmp_path), {}
        for which in (0, 1):
            Machine.exports.write(which, EPOCHS)
            for epochs in ((0,), (1,), EPOCHS):
                db.load(Machine.exports.folder(which), name="machine", epochs=epochs)
                Machine.clean[which, epochs] = everything_of(db, "machine")
                db.delete("machine")
            shutil.rmtree(Machine.exports.folder(which))
        few = settings(
            max_examples=5,
            stateful_step_count=8,
            deadline=None,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink would take hours
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(Machine, settings=few)
