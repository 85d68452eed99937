"""A tiny case, or more, of every operator that the tracer knows by name.

The first word of a case is the operator; `docs/operators.md` names these cases as its proofs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

aten = torch.ops.aten
ROW, ROWS, IMAGE = (1, 6), (1, 2, 3), (1, 2, 5, 4)
SEQUENCE, VOLUME = (1, 2, 5), (1, 2, 3, 4, 3)


class Weighted(nn.Module):
    """A function of a module that holds weights, and of what it is given."""

    def __init__(self, function, tensors):
        super().__init__()
        self.function = function
        for name, value in tensors.items():
            if isinstance(value, tuple):
                setattr(self, name, nn.Parameter(torch.ones(value)))
            else:
                self.register_buffer(name, value)

    def forward(self, x):
        return self.function(self, x)


@dataclass(frozen=True, eq=False)
class Case:
    """What is traced, and an example of what it is given."""

    model: nn.Module | Callable[[Tensor], Any]
    example: Tensor


def case(model, shape=ROW):
    """A module or a function of one activity."""
    return Case(model, torch.zeros(shape))


def held(function, shape=ROW, **tensors):
    """A function with parameters of these shapes, or buffers where tensors are given."""
    return Case(Weighted(function, tensors), torch.zeros(shape))


def looked_up(function, words=5, shape=(1, 3), **tensors):
    """A function of tokens."""
    return Case(Weighted(function, tensors), torch.arange(shape[1]).remainder(words).expand(shape))


def halves(function, shape=ROW, axis=1):
    """A function of two activities."""
    return case(lambda x: function(*x.chunk(2, axis)), shape)


def each(names, function, shape=ROW, **tensors):
    """The same case of several operators, each called directly."""
    return {
        name: held(lambda m, x, n=name: function(getattr(aten, n), m, x), shape, **tensors)
        for name in names.split()
    }


places = torch.tensor([2, 0, 1, 2])
mask = torch.tensor([True, False, True, True, False, False])
number = torch.arange(1.0, 7)
square = torch.tensor([[0.5, 0.0, 2.0], [0.0, 1.5, 0.0], [3.0, 0.25, 0.0]])
turn = torch.tensor([[[0.75, 0.25, 0.125], [-0.25, 0.875, 0.0]]])
grid = F.affine_grid(turn, (1, 2, 3, 3), align_corners=False)
steps = F.affine_grid(torch.eye(3, 4)[None] * 0.5, (1, 2, 2, 2, 2), align_corners=False)


def layers_of_a_cell(cell):
    """A cell that is applied twice, so that its state is not zero."""

    def function(x):
        first, second = x.unbind(1)
        return cell(second, cell(first))

    return function


PRODUCTS = {
    "linear": held(lambda m, x: F.linear(x, m.w, m.b), ROWS, w=(4, 3), b=(4,)),
    "linear of a constant": held(lambda m, x: F.linear(m.w, x[0], m.b), ROWS, w=(4, 3), b=(2,)),
    "linear by a fixed matrix": held(lambda m, x: F.linear(x, m.w), ROWS, w=square),
    "linear of a fixed matrix": held(lambda m, x: F.linear(m.w, x[0]), ROWS, w=square),
    "linear onto activities": held(lambda m, x: F.linear(x, m.w, x[0, 0]), ROWS, w=(3, 3)),
    "linear of activities": case(lambda x: F.linear(x, x[0]), ROWS),
    "mm": held(lambda m, x: torch.mm(x, m.w), w=(6, 4)),
    "bmm": held(lambda m, x: torch.bmm(x, m.w), ROWS, w=(1, 3, 4)),
    "matmul": held(lambda m, x: torch.matmul(m.w, x), ROWS, w=(4, 2)),
    "matmul by a fixed matrix": held(lambda m, x: x @ m.w, ROWS, w=square),
    "matmul of a fixed matrix": held(lambda m, x: m.w @ x[0].t(), ROWS, w=square),
    "matmul of activities": case(lambda x: x @ x.transpose(1, 2), ROWS),
    "linalg_matmul": held(lambda m, x: torch.linalg.matmul(x, m.w), ROWS, w=(3, 4)),
    "mv": held(lambda m, x: torch.mv(m.w, x[0]), w=(4, 6)),
    "dot": held(lambda m, x: torch.dot(x[0], m.w), w=(6,)),
    "vdot": held(lambda m, x: torch.vdot(x[0], m.w), w=(6,)),
    "addmm": held(lambda m, x: torch.addmm(m.b, x, m.w, beta=2, alpha=3), w=(6, 4), b=(4,)),
    "addmm onto activities": held(lambda m, x: torch.addmm(x, x, m.w, beta=2), w=(6, 6)),
    "addmm by a fixed matrix": held(lambda m, x: torch.addmm(m.b, x[0], m.w), ROWS, w=square, b=(3,)),
    "addmm of a fixed matrix": held(lambda m, x: torch.addmm(m.b, m.w, x[0].t()), ROWS, w=square, b=(2,)),
    "addmm of activities": held(lambda m, x: torch.addmm(m.b, x[0], x[0].t()), ROWS, b=(2,)),
    "addmv": held(lambda m, x: torch.addmv(m.b, m.w, x[0]), w=(4, 6), b=(4,)),
    "baddbmm": held(lambda m, x: torch.baddbmm(m.b, m.w, x), ROWS, w=(1, 4, 2), b=(4, 1)),
    "addbmm": held(lambda m, x: torch.addbmm(m.b, x, m.w), ROWS, w=(1, 3, 4), b=(4,)),
    "addr": held(lambda m, x: torch.addr(m.b, x[0], m.w), w=(3,), b=(3,)),
    "outer": held(lambda m, x: torch.outer(x[0], m.w), w=(3,)),
    "outer with a fixed vector": held(lambda m, x: torch.outer(x[0], m.w), w=number),
    "ger": held(lambda m, x: torch.ger(m.w, x[0]), w=(3,)),
    "inner": held(lambda m, x: torch.inner(m.w, x[0]), ROWS, w=(4, 3)),
    "inner by a fixed matrix": held(lambda m, x: torch.inner(x[0], m.w), ROWS, w=square),
    "inner of activities": case(lambda x: torch.inner(x[0], x[0]), ROWS),
    "inner with a number": held(lambda m, x: torch.inner(x[0], m.w), w=()),
    "tensordot": held(
        lambda m, x: torch.tensordot(x, m.w, dims=([3, 1], [0, 2])), IMAGE, w=(4, 3, 2)
    ),
    "kron": held(lambda m, x: torch.kron(m.w, x[0]), ROWS, w=(2, 3)),
    "bilinear": held(lambda m, x: F.bilinear(x, m.v, m.w, m.b), w=(4, 6, 2), b=(4,), v=(1, 2)),
    "bilinear of activities": held(lambda m, x: F.bilinear(x, x, m.w), w=(4, 6, 6)),
    "linalg_multi_dot": held(
        lambda m, x: torch.linalg.multi_dot([m.w, x[0], m.v]), ROWS, w=(4, 2), v=(3, 5)
    ),
    "linalg_multi_dot of activities": held(
        lambda m, x: torch.linalg.multi_dot([x[0], x[0].t(), m.w]), ROWS, w=(2, 2)
    ),
    "linalg_multi_dot by fixed matrices": held(
        lambda m, x: torch.linalg.multi_dot([m.w, x[0].t(), m.v]), ROWS, w=square, v=torch.eye(2)
    ),
    "chain_matmul": held(lambda m, x: aten.chain_matmul([x[0], m.w, m.v]), ROWS, w=(3, 4), v=(4, 2)),
    "einsum": held(lambda m, x: torch.einsum("bri,hio->bhro", x, m.w), ROWS, w=(2, 3, 4)),
    "einsum by heads": held(lambda m, x: torch.einsum("bhi,hio->bho", x, m.w), ROWS, w=(2, 3, 4)),
    "einsum by a fixed matrix": held(lambda m, x: torch.einsum("bri,io->bro", x, m.w), ROWS, w=square),
    "einsum in place": held(lambda m, x: torch.einsum("bri,i->bri", x, m.w), ROWS, w=(3,)),
    "einsum alone": case(lambda x: torch.einsum("brr->b", x), (1, 3, 3)),
    "einsum by fixed heads": held(
        lambda m, x: torch.einsum("bri,rio->bro", x, m.w), (1, 3, 3), w=torch.eye(3).repeat(3, 1, 1)
    ),
    "einsum of activities": held(
        lambda m, x: torch.einsum("bri,bsi,sr->br", x, x, m.w), ROWS, w=(2, 2)
    ),
}
CONVOLUTIONS = {
    "conv1d": case(nn.Conv1d(2, 3, 2, padding="same", dilation=2), SEQUENCE),
    "conv2d": case(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), IMAGE),
    "conv3d": case(nn.Conv3d(2, 2, 2), VOLUME),
    "conv2d by a fixed kernel": held(
        lambda m, x: F.conv2d(x, m.w, groups=2), IMAGE, w=torch.full((2, 1, 2, 2), 0.25)
    ),
    "conv2d by activities": case(lambda x: F.conv2d(x[:, :1], x[:, 1:, :2, :2]), IMAGE),
    "convolution": held(
        lambda m, x: aten.convolution(x, m.w, m.b, [2], [1], [1], True, [1], 2), SEQUENCE, w=(2, 2, 3), b=(4,)
    ),
    "conv_transpose1d": case(nn.ConvTranspose1d(2, 3, 2, stride=2), SEQUENCE),
    "conv_transpose2d": case(nn.ConvTranspose2d(2, 2, 3, 2, 1, 1, groups=2), IMAGE),
    "conv_transpose3d": case(nn.ConvTranspose3d(2, 1, 2), VOLUME),
}
EMBEDDINGS = {
    "embedding": looked_up(lambda m, x: F.embedding(x, m.w), w=(5, 4)),
    "embedding by a fixed table": looked_up(lambda m, x: F.embedding(x, m.w), 3, w=square),
    "embedding and its tokens": looked_up(lambda m, x: F.embedding(x, m.w) + x[..., None], w=(5, 4)),
    "embedding of activities": case(lambda x: F.embedding(places, x), (5, 4)),
    "one_hot": looked_up(lambda m, x: F.one_hot(x, 5) + x[..., None]),
    "index by tokens": looked_up(lambda m, x: m.w[:, x[0]], w=(4, 5)),
    "index_select by tokens": looked_up(lambda m, x: m.w.index_select(1, x[0]), w=(4, 5)),
    "index_select by fixed tokens": looked_up(lambda m, x: m.w.index_select(0, x[0]), 3, w=square),
    "take by tokens": looked_up(lambda m, x: torch.take(m.w, x), w=(5,)),
    "take by fixed tokens": looked_up(lambda m, x: torch.take(m.w, x) * x, w=number),
    "gather by tokens": looked_up(lambda m, x: m.w.gather(1, x), w=(1, 5)),
    "take_along_dim by tokens": looked_up(lambda m, x: m.w.take_along_dim(x, 1), w=(1, 5)),
    "gather by computed places": case(lambda x: x.gather(1, x.topk(2)[1])),
    "index by computed places": case(lambda x: x[0][x[0].topk(2)[1]]),
    "embedding_bag": looked_up(lambda m, x: F.embedding_bag(x, m.w, mode="mean"), w=(5, 4)),
    "embedding_bag of shares": looked_up(
        lambda m, x: F.embedding_bag(x, m.w, per_sample_weights=m.s, mode="sum"), w=(5, 4), s=(1, 3)
    ),
    "embedding_bag by a fixed table": looked_up(lambda m, x: F.embedding_bag(x, m.w), 3, w=square),
    "embedding_bag of the largest": looked_up(
        lambda m, x: F.embedding_bag(x, m.w, mode="max"), w=(5, 4)
    ),
    "embedding_bag and its tokens": looked_up(
        lambda m, x: F.embedding_bag(x, m.w, mode="sum") + x[:, :1], w=(5, 4)
    ),
    "embedding_bag without padding": looked_up(
        lambda m, x: F.embedding_bag(x, m.w, mode="mean", padding_idx=0), w=(5, 4)
    ),
    **{
        name: looked_up(
            lambda m, x, n=name: getattr(aten, n)(m.w, x[0], torch.tensor([0, 2]), False, 0)[0],
            w=(5, 4),
        )
        for name in ("_embedding_bag", "_embedding_bag_forward_only")
    },
}
RECURRENT = {
    "lstm": case(lambda x, net=nn.LSTM(3, 4, proj_size=2): net(x)[0], (2, 1, 3)),
    "gru": case(lambda x, net=nn.GRU(3, 2, bidirectional=True): net(x)[0], (2, 1, 3)),
    "gru of shared neurons": case(lambda x, net=nn.GRU(3, 2): torch.cat(net(x)), (2, 1, 3)),
    "rnn_tanh": case(lambda x, net=nn.RNN(3, 2, 2): net(x)[0], (2, 1, 3)),
    "rnn_relu": case(lambda x, net=nn.RNN(3, 2, nonlinearity="relu"): net(x)[0], (2, 1, 3)),
    "lstm_cell": case(layers_of_a_cell(nn.LSTMCell(3, 2)), ROWS),
    "gru_cell": case(layers_of_a_cell(nn.GRUCell(3, 2)), ROWS),
    "rnn_tanh_cell": case(layers_of_a_cell(nn.RNNCell(3, 2)), ROWS),
    "rnn_relu_cell": case(layers_of_a_cell(nn.RNNCell(3, 2, nonlinearity="relu")), ROWS),
}
