"""Published networks and the measures their authors published of them.

Network 1 of L. F. S. Scabini and O. M. Bruno, "Structure and performance of fully connected neural
networks: Emerging complex network properties" (Physica A 615, 2023), with its hidden neurons'
measures at every epoch. The data is not part of this repository: `CNTGRAPH_ACCEPTANCE_DATA` says
where it lies.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torch import nn

import cntgraph as cnt

DATA = os.environ.get("CNTGRAPH_ACCEPTANCE_DATA", "")
pytestmark = pytest.mark.skipif(not DATA, reason="CNTGRAPH_ACCEPTANCE_DATA is not set")

SIZES = (784, 200, 100, 10)
KERNELS = (9328, 638992, 721456)  # byte offsets of the float32 kernels in the file
STRENGTH, POSITIVE_DEGREE = 0, 7  # columns of the published table


@pytest.fixture(scope="module")
def network():
    data = (Path(DATA) / "mlp-cn" / "network1.h5").read_bytes()
    model = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(SIZES)))
    for layer, offset in zip(model, KERNELS, strict=True):
        shape = layer.in_features, layer.out_features
        kernel = np.frombuffer(data, "<f4", shape[0] * shape[1], offset).reshape(shape)
        layer.weight.data = torch.tensor(kernel.T)
    return cnt.trace(model, (1, SIZES[0]))


@pytest.fixture(scope="module")
def published():
    table = scipy.io.loadmat(Path(DATA) / "mlp-cn" / "network1_9measures.mat")
    return np.concatenate([table["fmap_h1"][-1], table["fmap_h2"][-1]])


def test_strength_is_the_published_one(network, published):
    found = cnt.strength(network).set_index("layer").loc[["0", "1"]]
    np.testing.assert_allclose(found["strength"], published[:, STRENGTH], atol=1e-9)


def test_links_of_positive_weight_are_the_published_ones(network, published):
    positive = np.zeros(network.neuron_count)
    for batch in network.links():
        kept = batch.column("weight").to_numpy() > 0
        for end in ("source", "target"):
            np.add.at(positive, batch.column(end).to_numpy()[kept], 1)
    hidden = positive[SIZES[0] : -SIZES[-1]]
    np.testing.assert_array_equal(hidden, published[:, POSITIVE_DEGREE])
