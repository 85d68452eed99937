"""A tiny case, or more, of every operator that the tracer knows by name.

The first word of a case is the operator; `docs/operators.md` names these cases as its proofs.
"""

from __future__ import annotations

from collections import OrderedDict
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
            if isinstance(value, Tensor):
                self.register_buffer(name, value.clone())
            else:
                whole = isinstance(value, nn.Module)
                setattr(self, name, value if whole else nn.Parameter(torch.ones(value)))

    def forward(self, x):
        return self.function(self, x)


@dataclass(frozen=True, eq=False)
class Case:
    """What is traced, and an example of what it is given."""

    model: nn.Module | Callable[[Tensor], Any]
    example: Tensor
    instead: str = ""  # the operator that the same module becomes on another machine


def case(model, shape=ROW):
    """A module or a function of one activity."""
    return Case(model, torch.zeros(shape))


def held(function, shape=ROW, **tensors):
    """A function with modules, buffers, and parameters of these shapes."""
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
fourth, thirds = torch.full((2, 6, 3), 0.25), torch.arange(18.0).reshape(2, 3, 3)
turn = torch.tensor([[[0.75, 0.25, 0.125], [-0.25, 0.875, 0.0]]])
grid = F.affine_grid(turn, (1, 2, 3, 3), align_corners=False)
steps = F.affine_grid(torch.eye(3, 4)[None] * 0.5, (1, 2, 2, 2, 2), align_corners=False)


def twice(m, x):
    """A cell, and again from the state that it left, which is not zero."""
    first, second = x.unbind(1)
    left = m.net(second, m.net(first))
    return left[0] if isinstance(left, tuple) else left


PRODUCTS = {
    "linear": held(lambda m, x: F.linear(x, m.w, m.b), ROWS, w=(4, 3), b=(4,)),
    "linear of a constant": held(lambda m, x: F.linear(m.w, x[0], m.b), ROWS, w=(4, 3), b=(2,)),
    "linear by a fixed matrix": case(lambda x: F.linear(x, square.to(x)), ROWS),
    "linear of a fixed matrix": case(lambda x: F.linear(square.to(x), x[0]), ROWS),
    "linear onto activities": held(lambda m, x: F.linear(x, m.w, x[0, 0]), ROWS, w=(3, 3)),
    "linear of activities": case(lambda x: F.linear(x, x[0]), ROWS),
    "mm": held(lambda m, x: torch.mm(x, m.w), w=(6, 4)),
    "bmm": held(lambda m, x: torch.bmm(x, m.w), ROWS, w=(1, 3, 4)),
    "matmul": held(lambda m, x: torch.matmul(m.w, x), ROWS, w=(4, 2)),
    "matmul by a fixed matrix": case(lambda x: x @ square.to(x), ROWS),
    "matmul of a fixed matrix": case(lambda x: square.to(x) @ x[0].t(), ROWS),
    "matmul of activities": case(lambda x: x @ x.transpose(1, 2), ROWS),
    "linalg_matmul": held(lambda m, x: torch.linalg.matmul(x, m.w), ROWS, w=(3, 4)),
    "mv": held(lambda m, x: torch.mv(m.w, x[0]), w=(4, 6)),
    "dot": held(lambda m, x: torch.dot(x[0], m.w), w=(6,)),
    "vdot": held(lambda m, x: torch.vdot(x[0], m.w), w=(6,)),
    "addmm": held(lambda m, x: torch.addmm(m.b, x, m.w, beta=2, alpha=3), w=(6, 4), b=(4,)),
    "addmm onto activities": held(lambda m, x: torch.addmm(x, x, m.w, beta=2), w=(6, 6)),
    "addmm by a fixed matrix": held(
        lambda m, x: torch.addmm(m.b, x[0], square.to(x)), ROWS, b=(3,)
    ),
    "addmm of a fixed matrix": held(
        lambda m, x: torch.addmm(m.b, square.to(x), x[0].t()), ROWS, b=(2,)
    ),
    "addmm of activities": held(lambda m, x: torch.addmm(m.b, x[0], x[0].t()), ROWS, b=(2,)),
    "addmv": held(lambda m, x: torch.addmv(m.b, m.w, x[0]), w=(4, 6), b=(4,)),
    "baddbmm": held(lambda m, x: torch.baddbmm(m.b, m.w, x), ROWS, w=(1, 4, 2), b=(4, 1)),
    "addbmm": held(lambda m, x: torch.addbmm(m.b, x, m.w), ROWS, w=(1, 3, 4), b=(4,)),
    "addr": held(lambda m, x: torch.addr(m.b, x[0], m.w), w=(3,), b=(3,)),
    "outer": held(lambda m, x: torch.outer(x[0], m.w), w=(3,)),
    "outer by a fixed vector": case(lambda x: torch.outer(x[0], number.to(x))),
    "ger": held(lambda m, x: torch.ger(m.w, x[0]), w=(3,)),
    "ger of a fixed vector": case(lambda x: torch.ger(number.to(x), x[0])),
    "inner": held(lambda m, x: torch.inner(m.w, x[0]), ROWS, w=(4, 3)),
    "inner by a fixed matrix": case(lambda x: torch.inner(x[0], square.to(x)), ROWS),
    "inner of activities": case(lambda x: torch.inner(x[0], x[0]), ROWS),
    "inner with a number": held(lambda m, x: torch.inner(x[0], m.w), w=()),
    "tensordot": held(
        lambda m, x: torch.tensordot(x, m.w, dims=([3, 1], [0, 2])), IMAGE, w=(4, 3, 2)
    ),
    "kron": held(lambda m, x: torch.kron(m.w, x[0]), ROWS, w=(2, 3)),
    "bilinear": held(lambda m, x: F.bilinear(x, m.v, m.w, m.b), w=(4, 6, 2), b=(4,), v=(1, 2)),
    "bilinear by position": held(
        lambda m, x: F.bilinear(x, m.v, m.w), ROWS, w=(4, 3, 2), v=(1, 2, 2)
    ),
    "bilinear by a fixed weight": case(lambda x: F.bilinear(x, square.to(x)[:1], fourth.to(x))),
    "bilinear by fixed weights": case(
        lambda x: F.bilinear(x, square.to(x)[None, :2], thirds.to(x)), ROWS
    ),
    "bilinear of activities": held(lambda m, x: F.bilinear(x, x, m.w), w=(4, 6, 6)),
    "linalg_multi_dot": held(
        lambda m, x: torch.linalg.multi_dot([m.w, x[0], m.v]), ROWS, w=(4, 2), v=(3, 5)
    ),
    "linalg_multi_dot of activities": held(
        lambda m, x: torch.linalg.multi_dot([x[0], x[0].t(), m.w]), ROWS, w=(2, 2)
    ),
    "linalg_multi_dot by fixed matrices": case(
        lambda x: torch.linalg.multi_dot([square.to(x), x[0].t(), square.to(x)[:2, :2]]), ROWS
    ),
    "chain_matmul": held(
        lambda m, x: aten.chain_matmul([x[0], m.w, m.v]), ROWS, w=(3, 4), v=(4, 2)
    ),
    "einsum": held(lambda m, x: torch.einsum("bri,hio->bhro", x, m.w), ROWS, w=(2, 3, 4)),
    "einsum by heads": held(lambda m, x: torch.einsum("bhi,hio->bho", x, m.w), ROWS, w=(2, 3, 4)),
    "einsum by a fixed matrix": case(lambda x: torch.einsum("bri,io->bro", x, square.to(x)), ROWS),
    "einsum in place": held(lambda m, x: torch.einsum("bri,i->bri", x, m.w), ROWS, w=(3,)),
    "einsum alone": case(lambda x: torch.einsum("brr->b", x), (1, 3, 3)),
    "einsum by fixed heads": case(
        lambda x: torch.einsum("bri,rio->bro", x, square.to(x).repeat(3, 1, 1)), (1, 3, 3)
    ),
    "einsum of activities": held(
        lambda m, x: torch.einsum("bri,bsi,sr->br", x, x, m.w), ROWS, w=(2, 2)
    ),
}
CONVOLUTIONS = {
    "conv1d": case(nn.Conv1d(2, 3, 2, padding="same", dilation=2), SEQUENCE),
    "conv2d": case(nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), IMAGE),
    "conv3d": case(nn.Conv3d(2, 2, 2), VOLUME),
    "conv2d by a fixed kernel": case(
        lambda x: F.conv2d(x, square.to(x).repeat(2, 1, 1, 1), groups=2), IMAGE
    ),
    "conv2d by activities": case(lambda x: F.conv2d(x[:, :1], x[:, 1:, :2, :2]), IMAGE),
    "convolution": held(
        lambda m, x: aten.convolution(x, m.w, m.b, [2], [1], [1], True, [1], 2),
        SEQUENCE,
        w=(2, 2, 3),
        b=(4,),
    ),
    "conv_transpose1d": case(nn.ConvTranspose1d(2, 3, 2, stride=2), SEQUENCE),
    "conv_transpose2d": case(nn.ConvTranspose2d(2, 2, 3, 2, 1, 1, groups=2), IMAGE),
    "conv_transpose3d": case(nn.ConvTranspose3d(2, 1, 2), VOLUME),
    "conv_transpose1d by a fixed kernel": case(
        lambda x: F.conv_transpose1d(x, square.to(x)[:2, None]), SEQUENCE
    ),
    "conv_transpose1d by activities": case(
        lambda x: F.conv_transpose1d(x, x[0, :, None, :2]), SEQUENCE
    ),
}
EMBEDDINGS = {
    "embedding": looked_up(lambda m, x: F.embedding(x, m.w), w=(5, 4)),
    "embedding by a fixed table": looked_up(lambda m, x: F.embedding(x, square), 3),
    "embedding and its tokens": looked_up(
        lambda m, x: F.embedding(x, m.w) + x[..., None], w=(5, 4)
    ),
    "embedding of activities": case(lambda x: F.embedding(places, x), (5, 4)),
    "one_hot": looked_up(lambda m, x: F.one_hot(x, 5) + x[..., None]),
    "index by tokens": looked_up(lambda m, x: m.w[:, x[0]], w=(4, 5)),
    "index_select by tokens": looked_up(lambda m, x: m.w.index_select(1, x[0]), w=(4, 5)),
    "index_select of rows": looked_up(lambda m, x: m.w.index_select(0, x[0]), w=(5, 4)),
    "index_select of fixed rows": looked_up(lambda m, x: square.index_select(0, x[0]), 3),
    "index_select of fixed columns": looked_up(lambda m, x: square.index_select(1, x[0]), 3),
    "take by tokens": looked_up(lambda m, x: torch.take(m.w, x), w=(5,)),
    "take of fixed numbers": looked_up(lambda m, x: torch.take(number, x)),
    "gather by tokens": looked_up(lambda m, x: m.w.gather(1, x), w=(1, 5)),
    "gather in each row": looked_up(lambda m, x: m.w.gather(1, x.repeat(2, 1)), w=(2, 5)),
    "gather in each fixed row": looked_up(lambda m, x: square.gather(1, x.repeat(3, 1)), 3),
    "take_along_dim by tokens": looked_up(lambda m, x: m.w.take_along_dim(x, 1), w=(1, 5)),
    "gather by computed places": case(lambda x: x.gather(1, x.topk(2)[1])),
    "index by computed places": case(lambda x: x[0][x[0].topk(2)[1]]),
    "embedding_bag": looked_up(lambda m, x: F.embedding_bag(x, m.w, mode="mean"), w=(5, 4)),
    "embedding_bag of shares": looked_up(
        lambda m, x: F.embedding_bag(x, m.w, per_sample_weights=m.s, mode="sum"), w=(5, 4), s=(1, 3)
    ),
    "embedding_bag by a fixed table": looked_up(
        lambda m, x: F.embedding_bag(x, square, mode="sum"), 3
    ),
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
            3,
            w=square,
        )
        for name in ("_embedding_bag", "_embedding_bag_forward_only")
    },
}
RECURRENT = {
    "lstm": held(lambda m, x: m.net(x)[0], (2, 1, 3), net=nn.LSTM(3, 4, proj_size=2)),
    "gru": held(lambda m, x: m.net(x)[0], (2, 1, 3), net=nn.GRU(3, 2, bidirectional=True)),
    "rnn_tanh": held(lambda m, x: m.net(x)[0], (2, 1, 3), net=nn.RNN(3, 2, 2)),
    "rnn_relu": held(lambda m, x: m.net(x)[1], (2, 1, 3), net=nn.RNN(3, 2, 1, "relu")),
    "lstm_cell": held(twice, ROWS, net=nn.LSTMCell(3, 2)),
    "gru_cell": held(twice, ROWS, net=nn.GRUCell(3, 2)),
    "rnn_tanh_cell": held(twice, ROWS, net=nn.RNNCell(3, 2)),
    "rnn_relu_cell": held(twice, ROWS, net=nn.RNNCell(3, 2, nonlinearity="relu")),
}
NORMS = {
    "_native_batch_norm_legit_no_training": case(nn.BatchNorm2d(2), IMAGE),
    "_native_batch_norm_legit": case(nn.BatchNorm2d(2, track_running_stats=False), IMAGE),
    "_native_batch_norm_legit shifted": held(
        lambda m, x: F.batch_norm(x, None, None, bias=m.b, training=True), IMAGE, b=(2,)
    ),
    "_native_batch_norm_legit_no_training by activities": case(
        lambda x: F.batch_norm(x, x[0, :, 0, 0], number[:2].to(x.dtype)), IMAGE
    ),
    **{
        f"{name}_batch_norm": Case(
            nn.BatchNorm2d(2, eps=0.25), torch.zeros(IMAGE), f"{name}_batch_norm"
        )
        for name in ("cudnn", "miopen")
    },
    "instance_norm": case(nn.InstanceNorm2d(2, affine=True), IMAGE),
    "instance_norm recorded": case(nn.InstanceNorm2d(2, track_running_stats=True), IMAGE),
    "instance_norm by activities": case(lambda x: F.instance_norm(x, weight=x[0, :, 0, 0]), IMAGE),
    "instance_norm shifted": held(lambda m, x: F.instance_norm(x, bias=m.b), IMAGE, b=(2,)),
    "group_norm by activities": case(lambda x: F.group_norm(x, 1, x[0, :, 0, 0]), IMAGE),
    "layer_norm by activities": case(lambda x: F.layer_norm(x, [4], x[0, 0, 0]), IMAGE),
    "group_norm": case(nn.GroupNorm(2, 2), IMAGE),
    "group_norm shifted": held(lambda m, x: F.group_norm(x, 1, None, m.b), IMAGE, b=(2,)),
    "layer_norm": case(nn.LayerNorm(4), IMAGE),
    "layer_norm shifted": held(lambda m, x: F.layer_norm(x, [4], None, m.b), IMAGE, b=(4,)),
    "rms_norm": case(nn.RMSNorm(4), IMAGE),
    "native_layer_norm": held(
        lambda m, x: aten.native_layer_norm(x, [4], m.w, m.b, 1e-5)[0], IMAGE, w=(4,), b=(4,)
    ),
    "native_group_norm": held(
        lambda m, x: aten.native_group_norm(x, m.w, m.b, 1, 2, 20, 2, 1e-5)[0],
        IMAGE,
        w=(2,),
        b=(2,),
    ),
    "_fused_rms_norm": held(lambda m, x: aten._fused_rms_norm(x, [4], m.w, 1e-5)[0], IMAGE, w=(4,)),
    "_native_batch_norm_legit_functional": held(
        lambda m, x: aten._native_batch_norm_legit_functional(
            x, m.w, m.b, m.c, m.v, False, 0.1, 1e-5
        )[0],
        IMAGE,
        w=(2,),
        b=(2,),
        c=number[:2],
        v=number[:2],
    ),
    "_batch_norm_no_update": held(
        lambda m, x: aten._batch_norm_no_update(x, m.w, m.b, m.c, m.v, 0.1, 1e-5)[0],
        IMAGE,
        w=(2,),
        b=(2,),
        c=number[:2],
        v=number[:2],
    ),
}
ELEMENTS = {
    "add": halves(torch.add),
    "add of complex numbers": case(lambda x: (torch.fft.fft(x) + 1j).abs()),
    "neg of complex numbers": case(lambda x: torch.fft.fft(x).neg().abs()),
    "add a constant": held(lambda m, x: x + m.b, b=(6,)),
    "sub": halves(lambda a, b: torch.sub(a, b, alpha=2)),
    "rsub": halves(torch.rsub),
    "subtract": halves(torch.subtract),
    "neg": case(torch.neg),
    "negative": case(torch.negative),
    "mul": held(lambda m, x: x * m.w, w=(6,)),
    "mul of activities": halves(torch.mul),
    "div": held(lambda m, x: x / m.w, w=(6,)),
    "div of a constant": held(lambda m, x: m.w / (x + 9), w=(6,)),
    "multiply": case(lambda x: torch.multiply(x, 2)),
    "divide": case(lambda x: torch.divide(x, 2)),
    "true_divide": case(lambda x: torch.true_divide(x, 2)),
    "addcmul": held(lambda m, x: torch.addcmul(m.w, x, m.v, value=2), w=(6,), v=(6,)),
    "addcmul onto activities": held(lambda m, x: torch.addcmul(x, x, m.v), v=(6,)),
    "addcmul of activities": case(lambda x: torch.addcmul(x, x, x)),
    "addcdiv": held(lambda m, x: torch.addcdiv(x, m.w, m.v, value=2), w=(6,), v=(6,)),
    "lerp": halves(lambda a, b: torch.lerp(a, b, 0.25)),
    "lerp by activities": case(lambda x: torch.lerp(x, x, x)),
    "where": case(lambda x: torch.where(mask, x, 0.5)),
    "where of parameters": held(lambda m, x: torch.where(m.w > 1, x, 2.0), w=(6,)),
    "where by activities": case(lambda x: torch.where(x > 0, x, 2.0)),
    "masked_fill": case(lambda x: x.masked_fill(mask, 0.0)),
    **{
        f"{name}{more}": make(getattr(torch, name))
        for name in "maximum minimum fmax fmin".split()
        for more, make in (
            ("", lambda f: held(lambda m, x: f(x, m.w), w=(6,))),
            (" of activities", halves),
        )
    },
    "max of two": held(lambda m, x: torch.max(x, m.w), w=(6,)),
    "min of two": halves(torch.min),
    "clamp": case(lambda x: x.clamp(-1, 1)),
    "clamp by parameters": held(lambda m, x: torch.clamp(x, m.w - 1, m.w), w=(6,)),
    "clamp by activities": halves(lambda a, b: torch.clamp(a, b, b + 1)),
    "clamp_min": case(lambda x: aten.clamp_min(x, 0.0)),
    "clamp_max": case(lambda x: aten.clamp_max(x, 1.0)),
    "pow": case(lambda x: x**3),
    "pow of activities": halves(lambda a, b: (a * a) ** b),
    "glu": case(lambda x: F.glu(x, 1)),
    "softmax": case(lambda x: x.softmax(1)),
    "log_softmax": case(lambda x: x.log_softmax(1)),
    "_softmax": case(lambda x: aten._softmax(x, 1, False)),
    "_log_softmax": case(lambda x: aten._log_softmax(x, 1, False)),
    "prelu": case(nn.PReLU(2), IMAGE),
    "prelu by activities": case(lambda x: F.prelu(x, x[0, :1])),
    "rrelu": case(nn.RReLU()),
    "rrelu in training": case(lambda x: F.rrelu(x, 0.25, 0.25, training=True)),
    "native_dropout": case(lambda x: aten.native_dropout(x, 0.5, False)[0]),
    "copy": case(lambda x: aten.copy(x, x.flip(1))),
}
MOVED = {
    "gather": case(lambda x: x.gather(1, places[None])),
    "take": case(lambda x: x.take(places)),
    "take_along_dim": case(lambda x: x.take_along_dim(places[None], 1)),
    "repeat_interleave": case(lambda x: x.repeat_interleave(places, 1, output_size=5), (1, 4)),
    "index_copy": case(lambda x: x.index_copy(1, places[:2], x[:, :2])),
    "scatter": case(lambda x: x.scatter(1, places[None, :3], x[:, 3:])),
    "scatter of products": case(
        lambda x: x.scatter(1, places[None, :3], x[:, 3:], reduce="multiply")
    ),
    "type_as": case(lambda x: x.type_as(number)),
    "type_as of a constant": case(lambda x: number.type_as(x) * x),
    "index_put": case(lambda x: x.index_put((places[:1] * 0, places[:1]), x[0, 4:5])),
    "index_put by adding": case(
        lambda x: x.index_put((places * 0, places), x[0, :4], accumulate=True)
    ),
    "index_put by activities": case(lambda x: x.index_put((x > 0,), number[0])),
    "scatter_add": case(lambda x: x.scatter_add(1, places[None], x[:, 2:])),
    "scatter_reduce": case(
        lambda x: x.new_zeros(1, 3).scatter_reduce(1, places[None], x[:, :4], "mean")
    ),
    "scatter_reduce of products": case(
        lambda x: x.scatter_reduce(1, places[None], x[:, :4], "prod")
    ),
    "index_add by activities": case(lambda x: x.index_add(1, x.topk(2)[1][0], x[:, :2])),
    "index_add": case(lambda x: x.index_add(1, places, x[:, :4], alpha=3)),
    "index_reduce": case(lambda x: x.new_zeros(1, 3).index_reduce(1, places, x[:, :4], "mean")),
    "index_reduce of products": case(lambda x: x.index_reduce(1, places, x[:, :4], "prod")),
}
POOLING = {
    "avg_pool1d": case(nn.AvgPool1d(2), SEQUENCE),
    "avg_pool2d": case(nn.AvgPool2d(3, 2, 1), IMAGE),
    "avg_pool3d": case(nn.AvgPool3d(2), VOLUME),
    "adaptive_avg_pool1d": case(nn.AdaptiveAvgPool1d(2), SEQUENCE),
    "adaptive_avg_pool2d": case(nn.AdaptiveAvgPool2d(2), IMAGE),
    "adaptive_avg_pool3d": case(nn.AdaptiveAvgPool3d(2), VOLUME),
    **each("_adaptive_avg_pool2d", lambda f, m, x: f(x, [2, 2]), IMAGE),
    **each("_adaptive_avg_pool3d", lambda f, m, x: f(x, [2, 2, 2]), VOLUME),
    "max_pool1d": case(nn.MaxPool1d(2), SEQUENCE),
    "max_pool2d": case(nn.MaxPool2d(2), IMAGE),
    "max_pool3d": case(nn.MaxPool3d(2), VOLUME),
    "max_pool2d_with_indices": case(lambda x: aten.max_pool2d_with_indices(x, [2])[0], IMAGE),
    "max_pool2d_with_indices and places": case(
        lambda x: F.max_pool2d(x, 2, return_indices=True)[1], IMAGE
    ),
    "max_pool1d_with_indices": case(lambda x: aten.max_pool1d_with_indices(x, [2])[0], SEQUENCE),
    "max_pool3d_with_indices": case(lambda x: aten.max_pool3d_with_indices(x, [2])[0], VOLUME),
    "adaptive_max_pool1d": case(nn.AdaptiveMaxPool1d(2), SEQUENCE),
    "adaptive_max_pool2d": case(nn.AdaptiveMaxPool2d(2), IMAGE),
    "adaptive_max_pool2d and places": case(
        lambda x: F.adaptive_max_pool2d(x, 2, return_indices=True)[1], IMAGE
    ),
    "adaptive_max_pool3d": case(nn.AdaptiveMaxPool3d(2), VOLUME),
}
REDUCTIONS = {
    "sum": case(lambda x: x.sum((1, 3)), IMAGE),
    "mean": case(lambda x: x.mean(-1), IMAGE),
    "sum of truths": case(lambda x: (x > 0).sum(1)),
    "trace of truths": case(lambda x: x[0, 0].int().trace(), IMAGE),
    "trace": case(lambda x: x[0, 0].trace(), IMAGE),
    "amax": case(lambda x: x.amax((1, 2)), IMAGE),
    "amin": case(lambda x: x.amin(1), IMAGE),
    "max": case(torch.max, IMAGE),
    "max and its place": case(lambda x: x.max(1)[1], IMAGE),
    "min": case(lambda x: x.min(1)[0], IMAGE),
    "aminmax": case(lambda x: torch.stack(x.aminmax(dim=1))),
    "cumsum": case(lambda x: x.cumsum(1)),
    "diff": case(lambda x: x.diff()),
    "trapezoid": case(torch.trapezoid),
    "cumulative_trapezoid": case(torch.cumulative_trapezoid),
    "affine_grid_generator": case(lambda x: F.affine_grid(x, (1, 2, 2, 2), False), (1, 2, 3)),
    "trapezoid over activities": halves(torch.trapezoid),
    "cumsum of truths": case(lambda x: (x > 0).cumsum(1)),
    "col2im": case(nn.Fold((4, 3), 2), (1, 8, 6)),
}


def resized(n, mode, shape, **options):
    return case(lambda x: F.interpolate(x, size=[3, 7, 2][:n], mode=mode, **options), shape)


RESAMPLING = {
    **{
        f"{start}{n}d": resized(n, mode, shape)
        for start, mode in (
            ("upsample_nearest", "nearest"),
            ("_upsample_nearest_exact", "nearest-exact"),
        )
        for n, shape in enumerate((SEQUENCE, IMAGE, VOLUME), 1)
    },
    "upsample_linear1d": resized(1, "linear", SEQUENCE),
    "upsample_bilinear2d": resized(2, "bilinear", IMAGE),
    "upsample_trilinear3d": resized(3, "trilinear", VOLUME),
    "upsample_bicubic2d": resized(2, "bicubic", IMAGE),
    "_upsample_bilinear2d_aa": resized(2, "bilinear", IMAGE, antialias=True),
    "_upsample_bicubic2d_aa": resized(2, "bicubic", IMAGE, antialias=True),
    **each("_upsample_lanczos2d_aa", lambda f, m, x: f(x, [3, 7], False), IMAGE),
    "_upsample_bilinear2d_aa of width one": case(
        lambda x: F.interpolate(x, size=[3, 1], mode="bilinear", antialias=True), IMAGE
    ),
    "grid_sampler": case(lambda x: F.grid_sample(x, grid.to(x.dtype), align_corners=False), IMAGE),
    "grid_sampler of activities": case(
        lambda x: F.grid_sample(x, x[:, :1, :2, :2].reshape(1, 2, 1, 2), align_corners=False), IMAGE
    ),
    **each("grid_sampler_2d", lambda f, m, x: f(x, grid.to(x.dtype), 0, 0, False), IMAGE),
    **each("grid_sampler_3d", lambda f, m, x: f(x, steps.to(x.dtype), 0, 0, False), VOLUME),
}
REINDEXED = {
    **each(
        """alias clone detach diag diag_embed diagflat diagonal fliplr flipud squeeze t tril
        triu""",
        lambda f, m, x: f(x),
        (3, 3),
    ),
    **each(
        "block_diag cat column_stack concat concatenate dstack hstack stack vstack",
        lambda f, m, x: f([x, x]),
    ),
    "as_strided": case(lambda x: torch.as_strided(x, (2, 2), (1, 2))),
    **each("_reshape_alias", lambda f, m, x: f(x, [2, 3], [3, 1])),
    **each("broadcast_tensors", lambda f, m, x: f([x, x[:, :1]])[1]),
    "reshape": held(lambda m, x: torch.einsum("bhi,hio->bho", x, m.w), ROWS, w=(2, 3, 4)),
    **each("view _unsafe_view", lambda f, m, x: f(x, [2, 3])),
    **each("expand repeat tile", lambda f, m, x: f(x, [2, 6])),
    **each("pixel_shuffle", lambda f, m, x: f(x, 2), (1, 4, 2, 3)),
    **each("pixel_unshuffle", lambda f, m, x: f(x, 2), (1, 1, 4, 2)),
    **each("channel_shuffle native_channel_shuffle", lambda f, m, x: f(x, 2), (1, 4, 2, 3)),
    **each("split unsafe_split", lambda f, m, x: f(x, 3, 1)[1]),
    **each("split_with_sizes unsafe_split_with_sizes", lambda f, m, x: f(x, [2, 4], 1)[1]),
    **each("constant_pad_nd pad", lambda f, m, x: f(x, [1, 2])),
    **each("reflection_pad1d replication_pad1d", lambda f, m, x: f(x, [1, 2]), SEQUENCE),
    **each("reflection_pad2d replication_pad2d", lambda f, m, x: f(x, [1, 2, 0, 1]), IMAGE),
    **each("reflection_pad3d replication_pad3d", lambda f, m, x: f(x, [1] * 6), VOLUME),
    "diagonal_scatter": case(lambda x: torch.diagonal_scatter(x, x[0]), (3, 3)),
    "select_scatter": case(lambda x: torch.select_scatter(x, x[0], 1, 2), (3, 3)),
    "slice_scatter": case(lambda x: torch.slice_scatter(x, x[:, :2], 1, 1, 3), (3, 3)),
    **each("flip", lambda f, m, x: f(x, [1])),
    **each("im2col", lambda f, m, x: f(x, [2, 2], [1, 1], [1, 1], [1, 1]), IMAGE),
    **each("index", lambda f, m, x: f(x, [None, places])),
    **each("index_select", lambda f, m, x: f(x, 1, places)),
    **each("transpose", lambda f, m, x: f(x, 1, 2), IMAGE),
    **each("permute", lambda f, m, x: f(x, [0, 3, 1, 2]), IMAGE),
    **each("roll", lambda f, m, x: f(x, [1], [1])),
    **each("rot90", lambda f, m, x: f(x), (2, 3)),
    **each("select", lambda f, m, x: f(x, 1, 2)),
    **each("slice", lambda f, m, x: f(x, 1, 2, 5)),
    **each("_to_copy", lambda f, m, x: f(x, dtype=torch.float64)),
    **each("unbind", lambda f, m, x: f(x, 1)[2]),
    **each("unfold", lambda f, m, x: f(x, 1, 3, 2)),
    **each("unsqueeze", lambda f, m, x: f(x, 1)),
    "pad by a number": case(lambda x: F.pad(x, (1, 1), value=2.0)),
    "_to_copy to integers": case(lambda x: x.int()),
}
ACTIVATIONS = {
    **each(
        """abs acos asin atan celu cos elu erf exp expm1 gelu hardshrink hardsigmoid hardswish
        hardtanh leaky_relu log log1p log_sigmoid mish reciprocal relu relu6 round rsqrt selu
        sigmoid sign silu sin sinh softplus softshrink sqrt square tan tanh""",
        lambda f, m, x: f(x),
    ),
    "threshold": case(nn.Threshold(0.5, -1)),
}


def after(first, module, shape=ROW):
    """A module behind another, so that it has sums to be applied to."""
    return case(nn.Sequential(OrderedDict(before=first, module=module)), shape)


def attending(m, x):
    return m.module(x, x, x)[0]


MODULES = {
    "Linear": [case(nn.Linear(6, 4))],
    "Bilinear": [held(lambda m, x: m.module(x, x), module=nn.Bilinear(6, 6, 2))],
    "Conv1d, Conv2d, Conv3d": [
        case(nn.Conv1d(2, 3, 2), SEQUENCE),
        case(nn.Conv2d(2, 2, 3, padding="same", padding_mode="reflect"), IMAGE),
        case(nn.Conv3d(2, 3, 2, stride=2, groups=1), VOLUME),
    ],
    "ConvTranspose1d, ConvTranspose2d, ConvTranspose3d": [
        case(nn.ConvTranspose1d(2, 3, 2), SEQUENCE),
        case(nn.ConvTranspose2d(2, 3, 2), IMAGE),
        case(nn.ConvTranspose3d(2, 3, 2), VOLUME),
    ],
    "Embedding": [looked_up(lambda m, x: m.module(x), module=nn.Embedding(5, 4))],
    "EmbeddingBag": [looked_up(lambda m, x: m.module(x), module=nn.EmbeddingBag(5, 4))],
    "LSTM": [held(lambda m, x: m.module(x)[0], (2, 1, 3), module=nn.LSTM(3, 2))],
    "GRU": [held(lambda m, x: m.module(x)[0], (2, 1, 3), module=nn.GRU(3, 2))],
    "RNN": [held(lambda m, x: m.module(x)[0], (2, 1, 3), module=nn.RNN(3, 2))],
    "LSTMCell": [held(lambda m, x: m.module(x)[0], (1, 3), module=nn.LSTMCell(3, 2))],
    "GRUCell": [held(lambda m, x: m.module(x), (1, 3), module=nn.GRUCell(3, 2))],
    "RNNCell": [held(lambda m, x: m.module(x), (1, 3), module=nn.RNNCell(3, 2))],
    "MultiheadAttention": [
        held(attending, (1, 3, 4), module=nn.MultiheadAttention(4, 2, batch_first=True))
    ],
    "TransformerEncoderLayer": [
        case(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), (1, 3, 4))
    ],
    "BatchNorm1d, BatchNorm2d, BatchNorm3d": [
        case(nn.BatchNorm1d(6)),
        case(nn.BatchNorm2d(2), IMAGE),
        case(nn.BatchNorm3d(2), VOLUME),
    ],
    "BatchNorm2d after Conv2d": [after(nn.Conv2d(2, 4, 2), nn.BatchNorm2d(4), IMAGE)],
    "LayerNorm, RMSNorm": [case(nn.LayerNorm(6)), case(nn.RMSNorm(6))],
    "GroupNorm, InstanceNorm2d": [
        case(nn.GroupNorm(2, 2), IMAGE),
        case(nn.InstanceNorm2d(2, affine=True), IMAGE),
    ],
    "LayerNorm without weights": [case(nn.LayerNorm(6, elementwise_affine=False))],
    "ReLU, GELU, SiLU, Tanh, Sigmoid ...": [
        after(nn.Linear(6, 4), activation())
        for activation in (
            *(nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.SELU, nn.CELU, nn.ReLU6),
            *(nn.LeakyReLU, nn.RReLU, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Mish),
            *(nn.Softplus, nn.LogSigmoid),
        )
    ],
    "Softmax, LogSoftmax, PReLU": [
        after(nn.Linear(6, 4), activation)
        for activation in (nn.Softmax(-1), nn.LogSoftmax(-1), nn.PReLU())
    ],
    "Softsign": [after(nn.Linear(6, 4), nn.Softsign())],
    "GLU": [after(nn.Linear(6, 4), nn.GLU())],
    "AvgPool1d, AvgPool2d, AvgPool3d": [
        case(nn.AvgPool1d(2), SEQUENCE),
        case(nn.AvgPool2d(2), IMAGE),
        case(nn.AvgPool3d(2), VOLUME),
    ],
    "AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d": [
        case(nn.AdaptiveAvgPool1d(2), SEQUENCE),
        case(nn.AdaptiveAvgPool2d(1), IMAGE),
        case(nn.AdaptiveAvgPool3d(2), VOLUME),
    ],
    "MaxPool1d, MaxPool2d, MaxPool3d": [
        case(nn.MaxPool1d(2), SEQUENCE),
        case(nn.MaxPool2d(2), IMAGE),
        case(nn.MaxPool3d(2), VOLUME),
    ],
    "AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d": [
        case(nn.AdaptiveMaxPool1d(2), SEQUENCE),
        case(nn.AdaptiveMaxPool2d(2), IMAGE),
        case(nn.AdaptiveMaxPool3d(2), VOLUME),
    ],
    "Upsample(mode='nearest')": [
        case(nn.Upsample(scale_factor=2), shape) for shape in (SEQUENCE, IMAGE, VOLUME)
    ],
    "Upsample(mode='linear', 'bilinear', 'bicubic', 'trilinear')": [
        case(nn.Upsample(scale_factor=1.5, mode=mode), shape)
        for mode, shape in (
            ("linear", SEQUENCE),
            ("bilinear", IMAGE),
            ("bicubic", IMAGE),
            ("trilinear", VOLUME),
        )
    ],
    "PixelShuffle, PixelUnshuffle, ChannelShuffle": [
        case(nn.PixelShuffle(2), (1, 4, 2, 3)),
        case(nn.PixelUnshuffle(2), (1, 1, 4, 2)),
        case(nn.ChannelShuffle(2), (1, 4, 2, 3)),
    ],
    "Flatten, Unflatten, Identity, Unfold": [
        case(nn.Flatten(), IMAGE),
        case(nn.Unflatten(1, (2, 3))),
        case(nn.Identity()),
        case(nn.Unfold(2), IMAGE),
    ],
    "Dropout, Dropout2d, AlphaDropout": [
        case(nn.Dropout()),
        case(nn.Dropout2d(), IMAGE),
        case(nn.AlphaDropout()),
    ],
    "ZeroPad2d, ReflectionPad2d, ReplicationPad2d, CircularPad2d": [
        case(pad(1), IMAGE)
        for pad in (nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d)
    ],
    "Fold": [case(nn.Fold((4, 3), 2), (1, 8, 6))],
    "CosineSimilarity": [held(lambda m, x: m.module(x, x.flip(1)), module=nn.CosineSimilarity())],
}
SHAPES = {
    **each("zeros_like ones_like", lambda f, m, x: x + f(x)),
    **each("full_like", lambda f, m, x: x + f(x, 2.0)),
    **each("new_zeros new_ones", lambda f, m, x: x + f(x, [6])),
    **each("new_full", lambda f, m, x: x + f(x, [6], 2.0)),
    **each("empty_like", lambda f, m, x: x + 0 * f(x)),
    **each("new_empty", lambda f, m, x: x + 0 * f(x, [6])),
    "fill": case(lambda x: x + x.clone().fill_(2.0)),
}
