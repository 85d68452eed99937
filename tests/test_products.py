"""A product with a constant side is a linear block, however it is spelled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import cntgraph as cnt


class Formula(nn.Module):
    """A function of its parameters (floats), its buffers (others) and what it is given."""

    def __init__(self, formula, tensors):
        super().__init__()
        self.formula = formula
        for name, value in tensors.items():
            if value.is_floating_point():
                setattr(self, name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, *given):
        return self.formula(self, *given)


def checked(model, *inputs, status="used"):
    """The network of a model, verified by operators and links, its links read from parameters."""
    network = cnt.trace(model, inputs)
    found = cnt.verify(model, inputs, samples=2)
    assert found.passed, found
    assert found.error_links is not None
    assert set(network.coverage["status"]) <= {status}
    return network


def elements_agree(network):
    """Every link has the value of the element of the parameter that it names."""
    for batch in network.links(batch=50):
        values = network.weights[batch.column("parameter")[0].as_py()].reshape(-1).numpy()
        found = values[batch.column("element").to_numpy()]
        np.testing.assert_allclose(batch.column("weight").to_numpy(), found, rtol=1e-6)
    return True


SIZE = dict(zip("abcd", (2, 3, 2, 1), strict=True))


@st.composite
def equations(draw):
    """Two operands of few axes, in which a label may come twice, be summed alone, or broadcast."""
    x, w = (draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3)) for _ in "xw")
    out = draw(st.lists(st.sampled_from(sorted({*x, *w})), unique=True))
    first = draw(st.booleans())
    left, right = (x, w) if first else (w, x)
    spelled = f"{''.join(left)},{''.join(right)}->{''.join(out)}"

    def formula(value, weight):
        return torch.einsum(spelled, *((value, weight) if first else (weight, value)))

    return formula, [SIZE[a] for a in x], [SIZE[a] for a in w]


@st.composite
def matrices(draw):
    """Shapes that `torch.matmul` takes: any ranks, leading axes that broadcast."""
    lead = draw(st.lists(st.integers(1, 3), max_size=2))
    i, k, j = (draw(st.integers(1, 3)) for _ in "ikj")
    one = [draw(st.sampled_from([n, 1])) for n in lead]
    cut = draw(st.integers(0, len(lead)))
    left = draw(st.sampled_from([[*lead, i, k], [k]]))
    right = draw(st.sampled_from([[*one[cut:], k, j], [k]]))
    if draw(st.booleans()):
        return (lambda value, weight: value @ weight), left, right
    return (lambda value, weight: weight @ value), right, left


class Side(nn.Module):
    """Many products side by side, so that one trace tells of them all."""

    def __init__(self, drawn):
        super().__init__()
        self.formulas = [formula for formula, _, _ in drawn]
        self.weights = nn.ParameterList(torch.randn(shape) for _, _, shape in drawn)

    def forward(self, *given):
        every = zip(self.formulas, given, self.weights, strict=True)
        return tuple(formula(value[0], weight) for formula, value, weight in every)


@given(st.lists(st.one_of(equations(), matrices()), min_size=20, max_size=30))
@settings(deadline=None, max_examples=2, phases=[Phase.generate])
def test_any_einsum_and_any_matmul_with_a_constant_is_linear(drawn):
    given_x = [torch.randn(1, *shape) for _, shape, _ in drawn]
    network = checked(Side(drawn), *given_x)
    assert elements_agree(network)
    wide = network.bound_to({name: w.double() for name, w in network.weights.items()})
    given_x = [x.double() for x in given_x]
    for k, found in enumerate(wide.forward(*given_x)):
        wanted = drawn[k][0](given_x[k][0], wide.weights[f"weights.{k}"])
        torch.testing.assert_close(found, wanted)


T, W = torch.randint(0, 2, (3,)) > 0, torch.randn
SPELLINGS = {
    "linear": (lambda m, x: F.linear(x, m.w, m.b), {"w": W(4, 3), "b": W(4)}, (1, 2, 3)),
    "constant input": (lambda m, x: F.linear(m.w, x[0], m.b), {"w": W(5, 3), "b": W(4)}, (1, 4, 3)),
    "addmm": (
        lambda m, x: torch.addmm(m.b, x, m.w, beta=2, alpha=3),
        {"w": W(3, 4), "b": W(4)},
        (1, 3),
    ),
    "bias of activities": (lambda m, x: torch.addmm(x, x, m.w, beta=2), {"w": W(3, 3)}, (1, 3)),
    "addmv": (lambda m, x: torch.addmv(m.b, m.w, x[0]), {"w": W(4, 3), "b": W(4)}, (1, 3)),
    "bmm": (lambda m, x: torch.bmm(x[0], m.w), {"w": W(2, 3, 4)}, (1, 2, 5, 3)),
    "baddbmm": (
        lambda m, x: torch.baddbmm(m.b, m.w, x[0]),
        {"w": W(2, 4, 3), "b": W(4, 1)},
        (1, 2, 3, 2),
    ),
    "addbmm": (
        lambda m, x: torch.addbmm(m.b, x[0], m.w),
        {"w": W(2, 3, 4), "b": W(4)},
        (1, 2, 5, 3),
    ),
    "mv": (lambda m, x: torch.mv(m.w, x[0]), {"w": W(4, 3)}, (1, 3)),
    "dot": (lambda m, x: torch.dot(x[0], m.w), {"w": W(3)}, (1, 3)),
    "tensordot": (
        lambda m, x: torch.tensordot(x, m.w, dims=([3, 1], [0, 2])),
        {"w": W(2, 4, 3)},
        (1, 3, 5, 2),
    ),
    "inner": (lambda m, x: torch.inner(m.w, x[0]), {"w": W(4, 3)}, (1, 2, 3)),
    "outer": (lambda m, x: torch.outer(x[0], m.w), {"w": W(4)}, (1, 3)),
    "kron": (lambda m, x: torch.kron(m.w, x[0]), {"w": W(2, 3)}, (1, 2, 2)),
    "chain": (
        lambda m, x: torch.linalg.multi_dot([m.w, x[0], m.v]),
        {"w": W(2, 4), "v": W(3, 5)},
        (1, 4, 3),
    ),
    "three operands": (
        lambda m, x: torch.einsum("b i, i j, j k -> b k", x, m.w, m.v),
        {"w": W(3, 4), "v": W(4, 2)},
        (1, 3),
    ),
    "ellipsis": (
        lambda m, x: torch.einsum("...hd,hde->...he", x, m.w),
        {"w": W(2, 3, 4)},
        (1, 5, 2, 3),
    ),
    "implicit output": (lambda m, x: torch.einsum("bi,ki", x, m.w), {"w": W(4, 3)}, (1, 3)),
    "one operand": (lambda m, x: torch.einsum("bii->b", x) * m.w, {"w": W(1)}, (1, 3, 3)),
    "bilinear in one": (
        lambda m, x: F.bilinear(x, m.v, m.w, m.b),
        {"w": W(4, 3, 2), "b": W(4), "v": W(1, 2)},
        (1, 3),
    ),
    "low rank": (
        lambda m, x: F.linear(x, m.w + m.b @ m.a),
        {"w": W(4, 6), "b": W(4, 2), "a": W(2, 6)},
        (1, 6),
    ),
    "scale of any shape": (
        lambda m, x: x * m.w / m.v + m.w,
        {"w": W(3, 1), "v": W(2, 1, 1)},
        (1, 2, 3, 4),
    ),
    "addcmul": (lambda m, x: torch.addcmul(m.w, x, m.v, value=2), {"w": W(3), "v": W(3)}, (1, 3)),
    "addcdiv": (lambda m, x: torch.addcdiv(x, m.w, m.v, value=2), {"w": W(3), "v": W(3)}, (1, 3)),
    "lerp": (lambda m, x: torch.lerp(x, x.flip(1), m.w), {"w": W(3)}, (1, 3)),
    "lerp to a constant": (lambda m, x: torch.lerp(x, m.w, 0.25), {"w": W(3)}, (1, 3)),
    "where": (lambda m, x: torch.where(m.t, x, m.w), {"w": W(3), "t": T}, (1, 2, 3)),
    "masked": (
        lambda m, x: x.masked_fill(m.t, -1e9).softmax(-1) * m.w,
        {"w": W(3), "t": T},
        (1, 3),
    ),
    "mask of numbers": (lambda m, x: x * m.t * m.w, {"w": W(3), "t": T}, (1, 3)),
    "subtracted": (lambda m, x: torch.sub(m.w, x, alpha=2) - 3, {"w": W(3)}, (1, 3)),
    "less its mean": (lambda m, x: (x - x.mean() + x) * m.w, {"w": W(3)}, (1, 3)),
    "in place": (lambda m, x: x.clone().mul_(m.w).add_(m.w), {"w": W(3)}, (1, 3)),
    "bounds": (lambda m, x: torch.clamp(x, m.w, m.w + 1), {"w": W(3, 1)}, (1, 2, 3, 4)),
    "largest": (lambda m, x: torch.maximum(x, m.w) ** 2 / 3, {"w": W(3)}, (1, 2, 3)),
    "one over": (lambda m, x: m.w / (x * x + 1), {"w": W(3)}, (1, 2, 3)),
    "power of a constant": (lambda m, x: m.w.abs() ** x, {"w": W(3)}, (1, 2, 3)),
    "rrelu": (lambda m, x: F.rrelu(x) * m.w, {"w": W(3)}, (1, 3)),
}


class Spelled(nn.Module):
    def __init__(self, names):
        super().__init__()
        self.parts = nn.ModuleList(Formula(*SPELLINGS[name][:2]) for name in names)

    def forward(self, *given):
        return tuple(part(x) for part, x in zip(self.parts, given, strict=True))


@pytest.mark.parametrize("names", [sorted(SPELLINGS)[k::3] for k in range(3)], ids=str)
def test_every_spelling_is_the_same_function(names):
    checked(Spelled(names), *(torch.randn(SPELLINGS[name][2]) for name in names))


def test_a_product_of_activities_has_no_weights():
    class Bilinear(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.both = nn.Linear(3, 2), nn.Bilinear(3, 2, 4)

        def forward(self, x):
            return self.both(x, self.inner(x))

    model = Bilinear()
    network = cnt.trace(model, (1, 3))
    assert cnt.verify(model, (1, 3)).passed
    rows = network.coverage.set_index("parameter")
    assert rows.loc["both.weight", "status"] == "unmapped"
    assert "aten.bilinear" in rows.loc["both.weight", "reason"]
    assert (
        "test_products.py" in rows.loc["both.weight", "reason"]
        or "torch" in rows.loc["both.weight", "reason"]
    )
    assert rows.loc["inner.weight", "status"] == "used"


def test_heads_are_groups_and_keep_their_elements():
    network = checked(
        Formula(lambda m, x: torch.einsum("bnhd,hde->bnhe", x, m.w), {"w": W(2, 3, 4)}),
        torch.randn(1, 5, 2, 3),
    )
    (block,) = network.blocks
    assert block.link_count == 5 * 2 * 3 * 4
    assert elements_agree(network)


@pytest.mark.parametrize("batch_norm", ["raw", "folded"])
def test_a_batch_norm_after_groups_is_the_same_function(batch_norm):
    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.norm = nn.Parameter(torch.randn(2, 3, 4)), nn.BatchNorm1d(2)
            self.norm.running_var.copy_(torch.tensor([2.0, 3.0]))

        def forward(self, x):
            return self.norm(torch.einsum("bgi,gio->bgo", x, self.w))

    assert cnt.verify(Grouped(), (1, 2, 3), batch_norm=batch_norm).passed


def test_activities_are_joined_before_the_weight_that_follows():
    def attention(model, x):
        q, k, v = (torch.einsum("bnd,hdk->bhnk", x, w) for w in (model.q, model.k, model.v))
        scores = torch.einsum("bhik,bhjk->bhij", q, k).softmax(-1)
        return torch.einsum("bhij,bhjk,hkd->bid", scores, v, model.o)

    tensors = {name: W(2, 6, 3) for name in "qkv"} | {"o": W(2, 3, 6)}
    network = checked(Formula(attention, tensors), torch.randn(1, 4, 6))
    assert {b.target for b in network.blocks if b.link_kind == "weight"} == set("qkvo")


def test_a_mask_takes_neurons_and_makes_no_links():
    mask = torch.tensor([True, False, False])
    model = Formula(lambda m, x: F.linear(x.masked_fill(m.t, 0), m.w), {"w": W(2, 3), "t": mask})
    network = checked(model, torch.randn(1, 3))
    assert [(b.kind, b.link_count) for b in network.blocks] == [("dense", 4)]


def test_a_mask_of_parameters_is_not_known_beforehand():
    model = Formula(lambda m, x: torch.where(m.w > 0, x, 2.0), {"w": torch.tensor([1.0, -1.0])})
    network = cnt.trace(model, (1, 2))
    other = network.with_weights({"w": torch.tensor([-1.0, 1.0])})
    x = torch.tensor([[5.0, 7.0]])
    assert network.forward(x)[0].tolist() == [[5.0, 2.0]]
    assert other.forward(x)[0].tolist() == [[2.0, 7.0]]


def test_a_matrix_on_the_left_keeps_the_order_of_axes_and_its_bias():
    model = Formula(lambda m, x: torch.relu(m.w @ x + m.b), {"w": W(5, 4), "b": W(5, 1)})
    network = checked(model, torch.randn(1, 4, 3))
    assert [(a.name, a.shape, a.activation) for a in network.layers[1:]] == [("w", (5, 3), "relu")]


def test_a_fixed_matrix_makes_fixed_links():
    network = cnt.trace(Formula(lambda m, x: x @ torch.eye(3) @ m.w, {"w": W(3, 2)}), (1, 3))
    assert [b.link_kind for b in network.blocks] == ["fixed", "weight"]


def test_a_gated_linear_unit_multiplies_by_a_sigmoid():
    model = nn.Sequential(nn.Linear(3, 8), nn.GLU())
    network = checked(model, torch.randn(1, 3))
    assert [a.activation for a in network.layers] == [None, "sigmoid[4:8]", None]
    assert network.blocks[1].link_kind == "data"


def test_complex_numbers_are_opaque_not_halved():
    model = Formula(lambda m, x: torch.fft.fft(x).real * 2 @ m.w, {"w": W(3, 2)})
    checked(model, torch.randn(1, 3))
    turned = Formula(lambda m, x: (torch.fft.fft(x) * (2 + 1j)).real @ m.w, {"w": W(3, 2)})
    checked(turned, torch.randn(1, 3))
