"""Figures hold the numbers of the run, and leave matplotlib's global state alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from torch import nn

import cntgraph as cnt
from cntgraph.views import strength_figure


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    states = {}
    for epoch in (0, 1, 2):
        states[epoch] = {name: torch.randn_like(t) for name, t in model.state_dict().items()}
    return cnt.export(model, states, (1, 6), to=tmp_path_factory.mktemp("run") / "small")


def axes_of(figure):
    return [axes for part in figure.subfigs for axes in part.axes]


def test_the_lines_are_the_numbers_of_the_run(run):
    *spread, fluctuation, deviation = axes_of(strength_figure(run))
    neurons, layers = run.neurons(), run.layers()
    names = ["input", "0", "2", "4"]
    for axes, name in zip(spread, names, strict=True):
        median = neurons[neurons["layer"] == name].groupby("epoch")["strength"].median()
        x, y = axes.lines[0].get_data()
        assert list(x) == [0, 1, 2]
        np.testing.assert_allclose(y, median)
        assert axes.get_ylabel().startswith(f"{name}\n")
    for axes, column in ((fluctuation, "fluctuation"), (deviation, "weight_std")):
        for line, name in zip(axes.lines, names, strict=True):
            assert line.get_label() == name
            expected = layers[layers["layer"] == name][column]
            np.testing.assert_array_equal(line.get_ydata(), expected)


def test_the_bands_hold_half_and_nine_tenths(run):
    axes = axes_of(strength_figure(run))[0]
    neurons = run.neurons(2)
    strength = neurons[neurons["layer"] == "input"]["strength"]
    for band, (low, high) in zip(axes.collections, ((0.05, 0.95), (0.25, 0.75)), strict=True):
        (path,) = band.get_paths()
        last = path.vertices[path.vertices[:, 0] == 2][:, 1]
        assert last.min() == pytest.approx(strength.quantile(low))
        assert last.max() == pytest.approx(strength.quantile(high))


def test_it_becomes_a_file_without_pyplot(run, tmp_path):
    before = pyplot.get_fignums()
    strength_figure(run).savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert pyplot.get_fignums() == before


def test_one_epoch_is_drawn_as_dots(tmp_path):
    model = nn.Linear(3, 2)
    run = cnt.export(model, {0: model.state_dict()}, (1, 3), to=tmp_path / "one")
    for axes in axes_of(strength_figure(run)):
        assert axes.lines[0].get_marker() == "o"


def test_many_layers_show_eight_from_the_first_to_the_last(tmp_path):
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(20)))
    run = cnt.export(model, {0: model.state_dict()}, (1, 2), to=tmp_path / "deep")
    labels = [axes.get_ylabel().split("\n")[0] for axes in axes_of(strength_figure(run))[:-2]]
    assert (len(labels), labels[0], labels[-1]) == (8, "input", "19")


def test_names_are_plain_text(tmp_path):
    model = nn.Sequential()
    model.add_module("cost$x$", nn.Linear(2, 2))
    run = cnt.export(model, {0: model.state_dict()}, (1, 2), to=tmp_path / "odd")
    figure = strength_figure(run)
    figure.savefig(tmp_path / "odd.png")
    assert axes_of(figure)[1].get_ylabel().startswith("cost\\$x\\$\n")


def test_a_run_without_links_is_refused(tmp_path):
    model = nn.ReLU()
    run = cnt.export(model, {0: model.state_dict()}, (1, 2), to=tmp_path / "bare")
    with pytest.raises(cnt.InputRefused, match="nothing to draw"):
        strength_figure(run)
