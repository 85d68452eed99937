"""Recurrent networks are their unrolled steps: same function, same weights at every step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import cntgraph as cnt
from cntgraph.tracing.tracing import compare

KINDS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
}


@st.composite
def unrolled(draw):
    """A recurrent module with an example: sizes and steps 1 to 3."""
    kind, units = draw(st.sampled_from(sorted(KINDS))), draw(st.integers(1, 3))
    options = {
        "num_layers": draw(st.integers(1, 2)),
        "bidirectional": draw(st.booleans()),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
    }
    if kind == "lstm" and units > 1 and draw(st.booleans()):
        options["proj_size"] = draw(st.integers(1, units - 1))
    inputs, steps, samples = (draw(st.integers(1, top)) for top in (3, 3, 2))
    torch.manual_seed(draw(st.integers(0, 9)))
    model = KINDS[kind](inputs, units, **options)
    shape = (samples, steps) if options["batch_first"] else (steps, samples)
    return kind, model, torch.randn(*shape, inputs), steps


def expected_in_strengths(model, kind, suffix, from_zero):
    """In-strength of the layers of one step, by the rows of the weights as torch documents them."""
    weights = (getattr(model, f"weight_{part}{suffix}").detach() for part in ("ih", "hh"))
    w, u = (weight.to(torch.float64).sum(1).numpy() for weight in weights)
    u = np.zeros_like(u) if from_zero else u
    if kind == "lstm":
        return {"gates": w + u}
    if kind == "gru":
        n = 2 * len(w) // 3
        return {"gates": w[:n] + u[:n], "new": w[n:], "recurrent": None if from_zero else u[n:]}
    return {"hidden": w + u}


@settings(max_examples=6, deadline=None)
@given(unrolled())
def test_a_recurrent_module_is_its_steps(case):
    kind, model, example, steps = case
    network = cnt.trace(model, example)
    found = compare(network, model, example, samples=1)
    assert found.error_operators <= 1e-9
    assert found.error_links <= 1e-9
    sums = cnt.strength(network)
    weight = sum(batch.column("weight").to_numpy().sum() for batch in network.links())
    assert sums["strength_in"].sum() == pytest.approx(weight, abs=1e-9)
    assert sums["strength_out"].sum() == pytest.approx(weight, abs=1e-9)
    by_layer = {name: rows["strength_in"].to_numpy() for name, rows in sums.groupby("layer")}
    sides = ("", "_reverse") if model.bidirectional else ("",)
    for layer, side, t in itertools.product(range(model.num_layers), sides, range(steps)):
        first = t == (steps - 1 if side else 0)
        expected = expected_in_strengths(model, kind, f"_l{layer}{side}", first)
        for part, wanted in expected.items():
            name = f"{kind}.l{layer}{side}.t{t}.{part}"
            assert (name in by_layer) == (wanted is not None)
            if wanted is not None:
                copies = len(by_layer[name]) // len(wanted)
                np.testing.assert_allclose(by_layer[name], np.tile(wanted, copies), atol=1e-6)
    status = network.coverage.set_index("parameter")["status"]
    unmapped = [n for n in status.index if n.startswith("weight_hh")] if steps == 1 else []
    assert [name for name, s in status.items() if s != "used"] == unmapped


def test_every_step_names_the_same_elements_of_the_same_parameters():
    model = nn.LSTM(2, 3)
    network = cnt.trace(model, (4, 1, 2))
    found = {}
    for block in network.blocks:
        if block.link_kind == "weight":
            (links,) = block.links()
            found[block.target, block.parameters[0]] = links.element.tolist(), links.weight.tolist()
    steps = [f"lstm.l0.t{t}.gates" for t in range(4)]
    for name in ("weight_ih_l0", "weight_hh_l0"):
        read = [found[step, name] for step in steps[name == "weight_hh_l0" :]]
        state = model.state_dict()[name].reshape(-1).to(torch.float64)
        assert all(links == (list(range(len(state))), state.tolist()) for links in read)
    for traced, count in ((network, 2), (cnt.trace(nn.GRU(2, 3), (4, 1, 2)), 4)):
        assert len({id(b.weight) for b in traced.blocks if b.link_kind == "weight"}) == count
    assert cnt.layers(network).set_index("layer").loc[steps[1], "weight_count"] == 12 * 5


def test_the_layers_of_a_step():
    network = cnt.trace(nn.LSTM(2, 3), (2, 1, 2))
    gates, cell, hidden = (network.layer(f"lstm.l0.t1.{p}") for p in ("gates", "cell", "hidden"))
    assert gates.activation == "sigmoid[0:6], tanh[6:9], sigmoid[9:12]"
    assert (gates.shape, cell.shape, hidden.shape) == ((12,), (3,), (3,))
    into = {(b.source, b.target, b.link_kind) for b in network.blocks if ".t1." in b.target}
    assert into == {
        ("input", gates.name, "weight"),
        ("lstm.l0.t0.hidden", gates.name, "weight"),
        (gates.name, cell.name, "data"),
        ("lstm.l0.t0.cell", cell.name, "data"),
        (gates.name, hidden.name, "data"),
        (cell.name, hidden.name, "data"),
    }
    joins = [b for b in network.blocks if b.source == gates.name and b.target == hidden.name]
    (links,) = joins[0].links()
    assert (links.source - gates.first).tolist() == [9, 10, 11]  # the output gate alone


class Loop(nn.Module):
    """A loop that the user wrote over a cell, read at every step."""

    def __init__(self, cell):
        super().__init__()
        self.cell, self.head = cell, nn.Linear(cell.hidden_size, 2)

    def forward(self, x):
        state, read = None, []
        for step in x.unbind(1):
            state = self.cell(step, state)
            read.append(self.head(state[0] if isinstance(state, tuple) else state))
        return torch.stack(read, 1)


class Sequences(nn.Module):
    """Sequence to sequence: the last state of one starts another, which reads shifted targets."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(3, 4, num_layers=2, batch_first=True, dropout=0.5)
        self.decoder = nn.LSTM(2, 4, num_layers=2, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, source, target):
        _, state = self.encoder(source)
        before = torch.cat([torch.zeros_like(target[:, :1]), target[:, :-1]], 1)
        return self.head(self.decoder(before, state)[0])


class Greedy(nn.Module):
    """A decoder that reads what it wrote, from a trained start."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.GRU(3, 4, batch_first=True), nn.GRUCell(2, 4)
        self.head, self.start = nn.Linear(4, 2), nn.Parameter(torch.randn(1, 2))

    def forward(self, source):
        state, y, written = self.encoder(source)[1][0], self.start.expand(len(source), 2), []
        for _ in range(3):
            state = self.decoder(y, state)
            y = self.head(state)
            written.append(y)
        return torch.stack(written, 1)


class OnFeatures(nn.Module):
    """A bidirectional LSTM on the features of a convolution, whose last states are read."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(2, 5, 3, padding=1), nn.BatchNorm1d(5)
        self.lstm = nn.LSTM(5, 3, batch_first=True, bidirectional=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        features = F.relu(self.norm(self.conv(x))).transpose(1, 2)
        _, (hidden, _) = self.lstm(features)
        return self.head(hidden.transpose(0, 1).flatten(1))


class Attending(nn.Module):
    """A weighted mean of all steps, weighted by a softmax over time."""

    def __init__(self):
        super().__init__()
        self.lstm, self.score = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        y, _ = self.lstm(x)
        over_time = torch.softmax(self.score(y), 1)
        return self.head(torch.bmm(over_time.transpose(1, 2), y)[:, 0])


class Shifted(nn.Module):
    """Steps that read nothing but zeros come first."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(F.pad(x, (0, 0, 2, 0)))[0]


class Started(nn.Module):
    """A trained state to start from."""

    def __init__(self):
        super().__init__()
        self.gru, self.start = nn.GRU(3, 4, batch_first=True), nn.Parameter(torch.randn(1, 1, 4))

    def forward(self, x):
        return torch.relu(self.gru(x, self.start.expand(1, len(x), 4).contiguous())[0])


class FromOnes(nn.Module):
    """A state to start from that has a type of its own."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x, (torch.ones(1, 1, 4), torch.zeros(1, 1, 4)))[0]


class TimeFirst(nn.Module):
    """The outputs alone of a module whose axis 0 is time."""

    def __init__(self, **options):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, **options)

    def forward(self, x):
        return self.lstm(x)[0]


class Given(nn.Module):
    """States that come in and go out."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x, hidden, cell):
        return self.lstm(x, (hidden, cell))


class Language(nn.Module):
    """A language model that predicts at every step, its head tied to nothing."""

    def __init__(self):
        super().__init__()
        self.embedding, self.gru = nn.Embedding(7, 3), nn.GRU(3, 4, batch_first=True)
        self.head = nn.Linear(4, 7)

    def forward(self, tokens):
        return self.head(self.gru(self.embedding(tokens))[0])


def sized(*shape):
    return torch.zeros(shape)


WIRED = {
    "lstm cell": (lambda: Loop(nn.LSTMCell(3, 4)), sized(1, 3, 3)),
    "gru cell": (lambda: Loop(nn.GRUCell(3, 4, bias=False)), sized(1, 3, 3)),
    "rnn cell": (lambda: Loop(nn.RNNCell(3, 4)), sized(1, 3, 3)),
    "relu cell": (lambda: Loop(nn.RNNCell(3, 4, nonlinearity="relu")), sized(1, 3, 3)),
    "sequences": (Sequences, (sized(1, 3, 3), sized(1, 3, 2))),
    "greedy": (Greedy, sized(1, 3, 3)),
    "features": (OnFeatures, sized(1, 2, 4)),
    "attention": (Attending, sized(1, 4, 3)),
    "shifted lstm": (lambda: Shifted(nn.LSTM(3, 4, batch_first=True)), sized(1, 3, 3)),
    "shifted gru": (lambda: Shifted(nn.GRU(3, 4, batch_first=True)), sized(1, 3, 3)),
    "shifted rnn": (lambda: Shifted(nn.RNN(3, 4, bias=False, batch_first=True)), sized(1, 3, 3)),
    "started": (Started, sized(1, 3, 3)),
    "from ones": (FromOnes, sized(1, 3, 3)),
    "given": (Given, (sized(1, 3, 3), sized(1, 1, 4), sized(1, 1, 4))),
    "language": (Language, torch.tensor([[1, 2, 6, 0]])),
    "one sample": (lambda: nn.GRU(3, 4), sized(5, 3)),
}


@pytest.mark.parametrize("name", WIRED)
def test_recurrent_layers_are_wired_into_models(name):
    torch.manual_seed(len(name))
    make, example = WIRED[name]
    found = cnt.verify(make(), example, samples=1)
    assert found.passed
    assert max(found.error_operators, found.error_links) <= 1e-9


@pytest.mark.parametrize("example", [torch.randn(3, 1, 3), (3, 2, 3)], ids=["tensor", "shape"])
def test_steps_are_not_taken_for_samples(example):
    network = cnt.trace(TimeFirst(bias=False), example)
    assert network.layers[-1].name == "lstm.l0.t2.hidden"


def test_cells_of_a_loop_are_numbered():
    network = cnt.trace(Loop(nn.LSTMCell(3, 4)), (1, 3, 3))
    names = [layer.name for layer in network.layers if layer.name.startswith("cell")]
    parts = ("gates", "cell", "hidden")
    assert names == [f"cell.{part}{n}" for n in ("", "#2", "#3") for part in parts]
    assert (network.coverage["status"] == "used").all()


def test_a_state_that_stays_zero_is_why_a_parameter_has_no_links():
    coverage = cnt.trace(nn.LSTM(2, 3), (1, 1, 2)).coverage.set_index("parameter")
    assert coverage.loc["weight_hh_l0", "status"] == "unmapped"
    assert "zero" in coverage.loc["weight_hh_l0", "reason"]


class Cell(nn.Module):
    """One call of a cell from its own zero state."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, x):
        return self.cell(x[:, 0])[0].unsqueeze(1)


@pytest.mark.parametrize(
    ("model", "states"),
    [
        (
            nn.LSTM(3, 4, 2, batch_first=True),
            ["lstm.l0.hidden", "lstm.l0.cell", "lstm.l1.hidden", "lstm.l1.cell"],
        ),
        (nn.LSTM(3, 4, batch_first=True, proj_size=2), ["lstm.l0.hidden", "lstm.l0.cell"]),
        (nn.GRU(3, 4, 2, batch_first=True), ["gru.l0.hidden", "gru.l1.hidden"]),
        (nn.RNN(3, 4, batch_first=True), ["rnn_tanh.l0.hidden"]),
        (Cell(), ["cell.previous.hidden", "cell.previous.cell"]),
    ],
    ids=["lstm", "projected", "gru", "rnn", "cell"],
)
def test_steps_one_after_another_are_the_sequence(model, states):
    network = cnt.trace(model, (1, 1, 3), recurrent="step")
    inputs = [layer for layer in network.layers if layer.kind == "input"][1:]
    assert [layer.name for layer in inputs] == states
    assert (network.coverage["status"] == "used").all()
    sequence, state = torch.randn(1, 4, 3), [torch.zeros(1, layer.size) for layer in inputs]
    read = []
    for step in sequence.split(1, 1):
        values = network.forward(step, *state)
        read.append(values[0])
        state = values[-len(inputs) :]
    with torch.no_grad():
        whole = in_a_loop(model.cell, sequence) if isinstance(model, Cell) else model(sequence)[0]
    torch.testing.assert_close(torch.cat(read, 1), whole)


def in_a_loop(cell, sequence):
    state, read = None, []
    for x in sequence.unbind(1):
        state = cell(x, state)
        read.append(state[0])
    return torch.stack(read, 1)


def test_states_that_the_user_gives_are_the_inputs_of_a_step():
    example = (torch.zeros(1, 1, 3), torch.zeros(1, 1, 4), torch.zeros(1, 1, 4))
    network = cnt.trace(Given(), example, recurrent="step")
    kinds = [layer.name for layer in network.layers if layer.kind == "input"]
    assert kinds == ["x", "hidden", "cell"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.LSTM(3, 4, batch_first=True), "reads 3 time steps"),
        (Loop(nn.GRUCell(3, 4)), "own state again"),
    ],
)
def test_the_view_of_one_step_refuses_more(model, message):
    with pytest.raises(cnt.InputRefused, match=message) as refused:
        cnt.trace(model, (1, 3, 3), recurrent="step")
    assert "one time step" in refused.value.fix


def test_an_unknown_view_is_refused():
    with pytest.raises(cnt.InputRefused, match="unrolled"):
        cnt.trace(nn.LSTM(3, 4), (1, 1, 3), recurrent="unroled")
