"""Every operator that the tracer knows does what `docs/operators.md` says that it does."""

from __future__ import annotations

import functools
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import models
import numpy as np
import operators
import pytest
import torch
from branches import Branches, Function, of, uneven
from torch import nn

import cntgraph as cnt
from cntgraph.network import Block, Network
from cntgraph.network.expressions import POINTWISE, REINDEXING
from cntgraph.tracing import catalogue
from cntgraph.tracing.assembling import assemble
from cntgraph.tracing.examples import example_of
from cntgraph.tracing.exporting import export
from cntgraph.tracing.interpreting import SHAPE_ONLY, Interpreter
from cntgraph.tracing.kinds import HANDLERS
from cntgraph.tracing.kinds.registry import DECLARED, made
from cntgraph.tracing.modules import MODULES
from cntgraph.tracing.proving import Proof
from cntgraph.tracing.tracing import forward_by_links

GROUPS = {
    name: getattr(operators, name)
    for name in """PRODUCTS CONVOLUTIONS EMBEDDINGS RECURRENT NORMS ELEMENTS MOVED POOLING
    REDUCTIONS RESAMPLING REINDEXED ACTIVATIONS SHAPES""".split()
}
GROUPS["MODULES"] = {
    f"{name} ({k})": case
    for name, cases in operators.MODULES.items()
    for k, case in enumerate(cases)
}
GROUP_OF = {key: group for group, cases in GROUPS.items() for key in cases}
OPERATORS = [key for key, group in GROUP_OF.items() if group != "MODULES"]
# PyTorch 2.15 exports these as comparisons and products, older versions as they are
SPELLED_OUT = {"hardshrink", "softshrink"}


class Found(NamedTuple):
    """What became of one case."""

    operators: set[str]
    blocks: list[Block]
    layers: list[str]
    expected: torch.Tensor
    by_operators: torch.Tensor
    by_links: torch.Tensor

    @property
    def makes(self):
        return {(b.kind, b.link_kind) for b in self.blocks}


class Group(NamedTuple):
    network: Network
    cases: dict[str, Found]


@functools.cache
def group(name) -> Group:
    """Every case of a group, by one trace."""
    cases = GROUPS[name]
    keys = {f"case{k}": key for k, key in enumerate(cases)}
    model = Branches({n: (cases[k].model, cases[k].example.shape) for n, k in keys.items()})
    model = uneven(model).eval()
    example = example_of(model, tuple(case.example for case in cases.values()))
    exported = export(model, example)
    seen = named(exported.graph, keys, cases)
    run = Interpreter(exported, HANDLERS)
    run.run()
    network = assemble(run, model, batch_norm="raw")
    proof = Proof(model, example)
    wide = network.bound_to(proof.weights(network.weights))
    inputs, expected = proof.sample(1)
    results = zip(expected, wide.forward(*inputs), forward_by_links(wide)(*inputs), strict=True)
    found = {}
    for k, (n, three) in enumerate(zip(keys, results, strict=True)):
        reached = {network.layers[k].name}
        for block in network.blocks:
            if block.source in reached:
                reached.add(block.target)
        blocks = [b for b in network.blocks if b.target in reached]
        found[keys[n]] = Found(seen[keys[n]], blocks, of(network, n), *three)
    return Group(network, found)


def named(graph, keys, cases):
    """The operators of each case, by the module that they were called in."""
    seen: dict[str, set[str]] = defaultdict(set)
    for node in graph.nodes:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        inside = re.search(r"\bbranch\.(case\d+)\b", str(stack[-1][0])) if stack else None
        if inside is None or not hasattr(node.target, "_opname"):
            continue
        key = keys[inside[1]]
        if cases[key].instead and "batch_norm" in node.target._opname:
            node.target = getattr(torch.ops.aten, cases[key].instead).default
            node.args = (*node.args[:5], False, *node.args[5:])
        seen[key].add(node.target._opname)
    return seen


def obeys_the_law(block):
    """The links reproduce the operator, its adjoint and its sums."""
    dense = np.zeros((block.operator.size_out, block.source_size))
    for links in block.links():
        at = links.target - block.target_first, links.source - block.source_first
        np.add.at(dense, at, links.weight)
    torch.manual_seed(2)
    x = torch.randn(2, dense.shape[1], dtype=torch.float64)
    y = torch.randn(2, dense.shape[0], dtype=torch.float64)
    np.testing.assert_allclose(block.forward(x), x.numpy() @ dense.T, atol=1e-9)
    np.testing.assert_allclose(block.transpose(y), y.numpy() @ dense, atol=1e-9)
    into, out = block.sums()
    np.testing.assert_allclose(into.sum(0), dense.sum(1), atol=1e-9)
    np.testing.assert_allclose(out.sum(0), dense.sum(0), atol=1e-9)
    assert block.link_count == sum(len(links.source) for links in block.links())


def agrees(found):
    """The network computes what the module does, by operators and by links."""
    wanted = found.expected.to(torch.float64)
    for other in (found.by_operators, found.by_links):
        result = other.to(torch.float64).reshape(wanted.shape)
        torch.testing.assert_close(result, wanted, rtol=1e-9, atol=1e-9, equal_nan=True)
    assert not wanted.isnan().all()


@pytest.mark.parametrize("key", OPERATORS)
def test_operator(key):
    found, name = group(GROUP_OF[key]).cases[key], key.split()[0]
    applied = {
        w for b in found.blocks for w in re.findall(r"aten\.(\w+)\.", str(b.weight.to_json()))
    }
    assert name in found.operators | applied or name in SPELLED_OUT
    agrees(found)
    assert found.makes <= set().union(*map(catalogue.makes, found.operators))
    for block in found.blocks:
        if block.kind != "opaque":
            obeys_the_law(block)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.name)
def test_module(module):
    for k in range(len(operators.MODULES[module.name])):
        found = group("MODULES").cases[f"{module.name} ({k})"]
        agrees(found)
        own = [n.removeprefix(".module") for n in found.layers if n != ".before"]
        assert tuple(own) == module.layers
        before = [b for b in found.blocks if b.target.endswith(".before")]
        assert found.makes - {(b.kind, b.link_kind) for b in before} == set(made(module.makes))


@pytest.mark.parametrize("name", GROUPS)
def test_strengths_are_sums_of_links(name):
    network = group(name).network
    into, out = np.zeros((2, network.neuron_count))
    for links in network.links(kinds=("weight",)):
        source, target, weight = (
            links.column(c).to_numpy() for c in ("source", "target", "weight")
        )
        np.add.at(into, target, weight)
        np.add.at(out, source, weight)
    table = cnt.strength(network)
    np.testing.assert_allclose(table["strength_in"], into, atol=1e-9)
    np.testing.assert_allclose(table["strength_out"], out, atol=1e-9)


def names_of(declared):
    return [name for name, several in DECLARED.items() if declared in several]


DECLARATIONS = list(dict.fromkeys(d for several in DECLARED.values() for d in several))


@pytest.mark.parametrize("declared", DECLARATIONS, ids=lambda d: d.handler.__name__)
def test_every_declared_block_occurs(declared):
    shown = [key for key in OPERATORS if key.split()[0] in names_of(declared)]
    found = set().union(*(group(GROUP_OF[key]).cases[key].makes for key in shown))
    assert set(declared.makes) <= found


def test_every_operator_has_a_case_of_its_name():
    assert set(DECLARED) == set(HANDLERS)
    known = set(HANDLERS) | REINDEXING | POINTWISE | SHAPE_ONLY
    assert known == {key.split()[0] for key in OPERATORS}
    assert known <= set(OPERATORS)
    assert sum(map(len, GROUPS.values())) == len(GROUP_OF)
    assert [m.name for m in MODULES] == list(operators.MODULES)


def test_what_only_moves_and_what_is_applied_make_what_the_page_says():
    for cases, words, makes in (
        ("REINDEXED", REINDEXING, catalogue.JOIN),
        ("ACTIVATIONS", POINTWISE - SPELLED_OUT, catalogue.ACTIVATION),
        ("SHAPES", SHAPE_ONLY, ()),
    ):
        found = [f for f in group(cases).cases.values() if f.operators <= words]
        assert makes == tuple(set().union(*(f.makes for f in found)))


# -- what is not known by name ---------------------------------------------------------------------


class Constant(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.rand(3, 2))

    def forward(self, x):
        return x @ torch.cdist(self.w, self.w)


def any_other():
    model, example = models.build("distances")
    network = cnt.trace(model, example)
    assert cnt.verify(model, example).passed
    assert ("opaque", "data") in {(b.kind, b.link_kind) for b in network.blocks}
    row = network.coverage.set_index("parameter").loc["prototypes"]
    assert row["status"] == "unmapped"
    assert "aten.cdist" in row["reason"]
    assert "models.py:" in row["reason"]


def any_other_of_constants():
    network = cnt.trace(Constant(), (1, 3))
    assert cnt.verify(Constant(), (1, 3)).passed
    assert [(b.kind, b.link_kind, b.parameters) for b in network.blocks] == [
        ("dense", "weight", ("w",))
    ]


OTHERS = {
    "any other operator": any_other,
    "any other operator without inputs": any_other_of_constants,
}


@torch.library.custom_op("cntgraph_operators::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@twice.register_fake
def _(x):
    return torch.empty_like(x)


REFUSED: dict[str, tuple[Any, str]] = {
    "an operator of your own": (Function(twice), "cntgraph_operators.twice"),
    "a shape that depends on values": (Function(lambda x: x[x > 0]), "depends on the values"),
    "weights that are complex": (nn.Linear(3, 2, dtype=torch.complex64), "complex"),
    "a random draw": (Function(lambda x: x + torch.randn_like(x)), "random"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other(name):
    OTHERS[name]()


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    model, said = REFUSED[name]
    with pytest.raises(cnt.ModelRefused) as refused:
        cnt.trace(model, (1, 3))
    assert said in f"{refused.value.what} {refused.value.why}"
    assert refused.value.fix


# -- the page --------------------------------------------------------------------------------------


def test_the_page_is_what_the_code_says():
    docs = Path(__file__).parent.parent / "docs" / "operators.md"
    assert docs.read_text(encoding="utf-8") == catalogue.page()


def test_every_row_names_a_test_that_is_here():
    here = {
        "operator": set(OPERATORS),
        "module": {m.name for m in MODULES},
        "other": set(OTHERS),
        "refused": set(REFUSED),
    }
    for family in catalogue.families():
        assert family.rows
        for row in family.rows:
            path, kind, name = re.fullmatch(r"(.*)::test_(\w+?)\[(.*)\]", row.test).groups()
            assert (path, name in here[kind]) == ("tests/test_operators.py", True)
            assert row.becomes


def test_a_declaration_is_spelled_with_kinds_that_exist():
    assert json.loads(json.dumps(made("dense weight, opaque data"))) == [
        ["dense", "weight"],
        ["opaque", "data"],
    ]
    with pytest.raises(ValueError, match="a kind of block, then a kind of link"):
        made("dense heavy")
