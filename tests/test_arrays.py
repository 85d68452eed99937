"""What NumPy computes of a stored network is what PyTorch does."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import ZOO
from stored import exported

import cntgraph as cnt
from cntgraph.network import arrays
from cntgraph.network.expressions import Expression, literal, operator, parameter
from cntgraph.runs.weights import StoredWeights

SHAPES = st.lists(st.integers(1, 3), min_size=3, max_size=3)
NUMBERS = st.sampled_from([-1.5, -0.0, 0.0, 0.3, 2.0, float("inf"), float("nan")])


def numbers(shape):
    return torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape) + 0.3


# What each operator takes after the first tensor: of that shape.
MORE = {
    "aten.add.Scalar": lambda shape: (0.3,),
    "aten.add.Tensor": lambda shape: (numbers(shape[1:]),),
    "aten.div.Tensor": lambda shape: (numbers([*shape[:1], 1, 1]),),
    "aten.expand.default": lambda shape: ([2, -1, shape[1], -1],),
    "aten.index_select.default": lambda shape: (2, torch.tensor([0, shape[2] - 1, 0])),
    "aten.mul.Scalar": lambda shape: (-2,),
    "aten.mul.Tensor": lambda shape: (numbers(shape),),
    "aten.permute.default": lambda shape: ([2, 0, 1],),
    "aten.reshape.default": lambda shape: ([-1, shape[2]],),
    "aten.sub.Tensor": lambda shape: (numbers(shape[1:]),),
    "aten.transpose.int": lambda shape: (0, -1),
    "aten.unsqueeze.default": lambda shape: (-1,),
    "aten.view.default": lambda shape: ([shape[0] * shape[1], -1],),
}
ONE = set(arrays._OPERATORS) - set(MORE) - {"aten.full.default", "aten.t.default"}


def same(found, expected):
    assert found.shape == tuple(expected.shape)
    np.testing.assert_allclose(found, expected.numpy(), rtol=4e-16, atol=0)


@pytest.mark.parametrize("name", sorted([*MORE, *ONE]))
@given(shape=SHAPES, data=st.data())
def test_an_operator_gives_what_it_gives_on_tensors(name, shape, data):
    size = shape[0] * shape[1] * shape[2]
    drawn = data.draw(st.lists(NUMBERS, min_size=size, max_size=size))
    x = torch.tensor(drawn, dtype=torch.float64).reshape(shape)
    more = MORE.get(name, lambda _: ())(shape)
    plain = [a.numpy() if isinstance(a, torch.Tensor) else a for a in more]
    same(arrays.computed(name, [x.numpy(), *plain], {}), operator(name)(x, *more))


def test_a_matrix_is_transposed_and_a_constant_has_its_type():
    w = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(arrays.computed("aten.t.default", [w], {}), w.T)
    third = arrays.computed("aten.full.default", [[2], 1 / 3], {"dtype": "float32"})
    assert third.tolist() == torch.full((2,), 1 / 3, dtype=torch.float32).tolist()
    assert arrays.computed("aten.full.default", [[2], 1 / 3], {"dtype": "bfloat16"}) is None
    assert arrays.computed("aten.full.default", [[2], 1 / 3], {}) is None


def test_what_is_not_known_is_left_to_pytorch():
    weights = StoredWeights({"w": np.ones((2, 2))})
    w = parameter("w")
    assert w.apply("aten.tanh.default").array(weights) is None
    assert w.apply("aten.add.Tensor", w, alpha=2).array(weights) is None
    assert w.apply("aten.mul.Tensor", w.apply("aten.tanh.default")).array(weights) is None
    assert w.array({"w": torch.ones(2, 2)}) is None
    assert Expression("aten.split.Tensor", (w, 1), item=1).array(weights) is None
    half = literal(torch.ones(2, dtype=torch.bfloat16))
    assert w.apply("aten.mul.Tensor", half).array(weights) is None


@pytest.fixture(scope="module", params=sorted(ZOO))
def both(request, tmp_path_factory):
    """A network as a run stores it, and the same one with tensors for weights."""
    stored = exported(tmp_path_factory.mktemp("runs") / "run", request.param).network(0)
    return stored, stored.bound_to(dict(stored.weights))


def test_weights_are_the_same_without_pytorch(both):
    for block, plain in zip(both[0].blocks, both[1].blocks, strict=True):
        if block.array is not None:
            same(block.array, plain.tensor)
            assert block.array.dtype == plain.tensor.numpy().dtype


def test_links_are_the_same_without_pytorch(both):
    kinds = cnt.network.LINK_KINDS
    for block, plain in zip(*(one.carrying_blocks(kinds) for one in both), strict=True):
        for found, expected in zip(block.links(1000), plain.links(1000), strict=True):
            for name in ("source", "target", "weight", "parameter", "element", "place"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("kind", ["dense", "lenet", "residual"])
def test_usual_networks_take_no_pytorch(kind, tmp_path):
    network = exported(tmp_path / "run", kind).network(0)
    assert all(block.array is not None for block in network.blocks)
