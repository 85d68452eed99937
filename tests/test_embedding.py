"""Tokens are one-hot neurons, and a look-up is a dense layer from them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import cntgraph as cnt


def checked(model, *inputs):
    """The network of a model: verified, a batch of it its samples, and back from its JSON."""
    network = cnt.trace(model, inputs)
    found = cnt.verify(model, inputs, samples=1)
    assert found.passed, found
    twin = cnt.Network.from_json(json.loads(json.dumps(network.to_json())), network.weights)
    batch = [torch.cat([x, x.flip(-1)]) for x in inputs]
    with torch.no_grad():
        wanted = model.eval()(*batch)
    torch.testing.assert_close(twin.forward(*batch)[0].reshape(wanted.shape), wanted)
    return network


def elements_agree(network):
    for links in network.links(batch=100):
        values = network.weights[links.column("parameter")[0].as_py()].reshape(-1).numpy()
        found = values[links.column("element").to_numpy()]
        np.testing.assert_array_equal(links.column("weight").to_numpy(), found)
    return True


class Attention(nn.Module):
    def __init__(self, width, fused):
        super().__init__()
        self.inner, self.outer = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fused = fused
        self.register_buffer("later", torch.ones(9, 9).triu(1).bool())

    def forward(self, x):
        n, width = x.shape[1:]
        q, k, v = (
            part.view(len(x), n, 2, -1).transpose(1, 2) for part in self.inner(x).chunk(3, -1)
        )
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(-2, -1) / math.sqrt(width / 2)
            y = scores.masked_fill(self.later[:n, :n], -math.inf).softmax(-1) @ v
        return self.outer(y.transpose(1, 2).reshape(len(x), n, width))


class Generator(nn.Module):
    """A small GPT: tokens and positions, causal attention, the head tied to the embedding."""

    def __init__(self, fused):
        super().__init__()
        self.words, self.places = nn.Embedding(7, 4), nn.Embedding(9, 4)
        self.norm, self.attention = nn.LayerNorm(4), Attention(4, fused)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.words.weight

    def forward(self, tokens):
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        return self.head(x + self.attention(self.norm(x)))


TOKENS = torch.tensor([[3, 0, 6, 3]])


@pytest.mark.parametrize("fused", [True, False])
def test_a_generator_with_a_tied_head(fused):
    network = checked(Generator(fused), TOKENS)
    given = network.layers[0]
    assert (given.name, given.kind, given.shape) == ("tokens", "input", (4, 7))
    assert elements_agree(network)
    assert set(network.coverage["status"]) == {"used"}
    rows = network.coverage.set_index("parameter")
    assert rows.loc["words.weight", "blocks"] == rows.loc["head.weight", "blocks"]
    tied = [b for b in network.blocks if b.parameters == ("words.weight",)]
    assert [(b.target, b.link_count) for b in tied] == [("words", 4 * 7 * 4), ("head", 4 * 4 * 7)]


def test_the_strength_of_a_word_is_the_sum_of_its_row():
    model = nn.Embedding(7, 4)
    network = cnt.trace(model, (TOKENS,))
    found = cnt.strength(network)["strength_out"].to_numpy()[: 4 * 7].reshape(4, 7)
    wanted = model.weight.detach().double().sum(1).expand(4, 7)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


class Looked(nn.Module):
    """Every way to look something up in a parameter."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(7, 4))
        self.across = nn.Parameter(torch.randn(2, 7))
        self.words = nn.Embedding(7, 4, padding_idx=0)

    def forward(self, a):
        one = self.words(a) + self.table[a] + self.across[:, a].sum(0).unsqueeze(-1)
        one = one + self.table.index_select(0, a[0]) + torch.take(self.across, a).unsqueeze(-1)
        return one + self.table.gather(0, a[0].unsqueeze(-1).expand(4, 3)).sum(-1, keepdim=True)


def test_every_look_up_reads_the_same_one_hot_neurons():
    model = Looked()
    network = cnt.trace(model, (TOKENS,))
    assert cnt.verify(model, (TOKENS,)).passed
    assert elements_agree(network)
    assert set(network.coverage["status"]) == {"used"}
    encoded = [a for a in network.layers if a.join is not None]
    assert {a.join.op for a in encoded} == {"aten.one_hot.default"}
    assert [(a.name, a.kind, a.shape) for a in encoded] == [
        ("a.one_hot", "hidden", (4, 7)),
        ("a.one_hot#2", "hidden", (4, 14)),
    ]


def test_a_one_hot_times_a_matrix_is_an_embedding():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(7, 2))

        def forward(self, tokens):
            return F.one_hot(tokens, 7).to(self.w.dtype) @ self.w

    network = checked(Model(), TOKENS)
    assert [(a.name, a.shape) for a in network.layers] == [("tokens", (4, 7)), ("w", (4, 2))]


class Masked(nn.Module):
    """Tokens that are words, a mask and, moved on, words of another vocabulary."""

    def __init__(self):
        super().__init__()
        self.words, self.moved = nn.Embedding(7, 4), nn.Embedding(8, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, tokens, other, image):
        x = self.words(tokens) + self.moved((tokens * 2 + 1) % 8) + self.words(other)
        x = x.masked_fill((tokens == 0).unsqueeze(-1), -3.0)
        start = torch.full((len(tokens), 1), 5)
        x = torch.cat([self.words(torch.cat([start, tokens], 1)), x + image], 1)
        return self.head(x * (tokens != 3).sum(1, keepdim=True).unsqueeze(-1))


def test_tokens_that_something_else_reads_stay_beside_their_one_hot_neurons():
    image = torch.randn(1, 4, 4)
    network = checked(Masked(), TOKENS, TOKENS.flip(1), image)
    given = [(a.name, a.shape) for a in network.layers if a.kind == "input"]
    assert given == [("tokens", (4,)), ("other", (4, 7)), ("image", (4, 4))]
    (block,) = [b for b in network.blocks if b.target == "tokens.one_hot"]
    assert (block.source, block.link_kind, block.link_count) == ("tokens", "data", 4 * 7)
    assert set(network.coverage["status"]) == {"used"}


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_of_words(mode):
    network = checked(nn.Sequential(nn.EmbeddingBag(7, 4, mode=mode), nn.Linear(4, 2)), TOKENS)
    kinds = {"sum": "fixed", "mean": "fixed", "max": "select"}
    assert [b.link_kind for b in network.blocks] == ["weight", kinds[mode], "weight"]
    assert elements_agree(network)


def test_a_bag_with_shares_and_bags_of_uneven_size():
    class Bags(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.EmbeddingBag(7, 4, mode="sum", padding_idx=3)
            self.least = nn.EmbeddingBag(7, 4, mode="max", include_last_offset=True)
            self.share = nn.Parameter(torch.rand(4))

        def forward(self, tokens):
            starts = torch.tensor([0, 1, 4])
            summed = self.words(tokens[0], starts[:2], per_sample_weights=self.share)
            return summed + self.least(tokens[0], starts)

    model = Bags()
    nn.init.normal_(model.words.weight)  # the row of the padding as well, which is not zero then
    network = cnt.trace(model, (TOKENS,))
    assert cnt.verify(model, (TOKENS,)).passed
    assert set(network.coverage["status"]) == {"used"}
    shared = [b.link_kind for b in network.blocks if b.parameters == ("share",)]
    assert shared == ["weight"]


def test_what_a_norm_bounds_while_it_is_read_is_not_weighted():
    model = nn.Embedding(7, 4, max_norm=0.5)
    network = cnt.trace(model, (TOKENS,))
    (row,) = network.coverage.to_dict("records")
    assert row["status"] == "unmapped"
    assert "embedding_renorm" in row["reason"]
    torch.testing.assert_close(network.forward(TOKENS)[0], model(TOKENS))


def test_words_outside_the_vocabulary_are_refused():
    network = cnt.trace(nn.Embedding(7, 4), (TOKENS,))
    with pytest.raises(cnt.InputRefused, match="from 0 to 6"):
        network.forward(TOKENS + 4)


def test_activities_indexed_by_activities_are_not_read_as_places():
    model = nn.Linear(7, 7)

    class Picked(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x, tokens):
            return self.inner(x)[0][tokens]

    network = cnt.trace(Picked(), (torch.randn(1, 7), TOKENS))
    assert cnt.verify(Picked(), (torch.randn(1, 7), TOKENS)).passed
    assert network.blocks[-1].link_kind == "data"


def test_numbers_cut_to_integers_are_not_moved_unchanged():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(7, 4)

        def forward(self, x):
            return self.words((x.abs() * 2).clamp(max=6).long())

    checked(Cut(), torch.randn(1, 5))
