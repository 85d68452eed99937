"""Divergences: their laws, SciPy's numbers, and intervals against resampling done by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import gaussian_kde, ks_2samp, norm, wasserstein_distance

import cntgraph as cnt
from cntgraph.measures.divergences import between

KINDS = ("jensen-shannon", "wasserstein", "kolmogorov-smirnov", "symmetric-kl")
# sums and differences of these are exact, so that laws hold to the last bit
samples = st.lists(st.integers(-1000, 1000), min_size=1, max_size=40).map(
    lambda values: np.array(values) / 8
)
kinds = st.sampled_from(KINDS)
laws = settings(deadline=None, max_examples=60)


def normal(count, mean=0.0, deviation=1.0):
    """A sample without chance: the quantiles of a normal distribution."""
    return mean + deviation * norm.ppf((np.arange(count) + 0.5) / count)


# -- laws -----------------------------------------------------------------------------------------


@laws
@given(samples, kinds, st.integers(0, 99))
def test_equal_samples_do_not_diverge(a, kind, seed):
    other = np.random.default_rng(seed).permutation(a)
    assert cnt.divergence(a, other, kind) == 0


@laws
@given(samples, st.sampled_from(KINDS[:3]), st.integers(2, 4))
def test_more_of_the_same_does_not_diverge(a, kind, times):
    assert cnt.divergence(a, np.tile(a, times), kind) == pytest.approx(0, abs=1e-12)


@laws
@given(samples, samples, kinds)
def test_order_does_not_matter_and_all_is_finite(a, b, kind):
    found = cnt.divergence(a, b, kind)
    assert found == cnt.divergence(b, a, kind)
    assert 0 <= found < np.inf
    if kind in ("jensen-shannon", "kolmogorov-smirnov"):
        assert found <= 1


@laws
@given(samples, samples, st.integers(-500, 500), st.sampled_from([0.125, 1, 4, 1024]))
def test_shift_and_scale(a, b, shift, scale):
    for kind in ("jensen-shannon", "kolmogorov-smirnov"):
        expected = cnt.divergence(a, b, kind)
        assert cnt.divergence(scale * a + shift, scale * b + shift, kind) == expected
    moved = cnt.divergence(scale * a + shift, scale * b + shift, "wasserstein")
    assert moved == pytest.approx(scale * cnt.divergence(a, b, "wasserstein"), rel=1e-12)
    smooth = cnt.divergence(a, b, "symmetric-kl")
    moved = cnt.divergence(scale * a + shift, scale * b + shift, "symmetric-kl")
    assert moved == pytest.approx(smooth, rel=1e-9, abs=1e-12)


@laws
@given(samples, st.integers(-500, 500))
def test_wasserstein_of_a_shift_is_the_shift(a, shift):
    assert cnt.divergence(a, a + shift, "wasserstein") == pytest.approx(abs(shift), rel=1e-12)


@laws
@given(samples, samples)
def test_what_is_far_apart_shares_no_bit(a, b):
    assert cnt.divergence(a, b + 1000, "jensen-shannon") == pytest.approx(1, abs=1e-12)
    assert cnt.divergence(a, b + 1000, "kolmogorov-smirnov") == 1


# -- other people's numbers -----------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:divide by zero")  # in the p-value that SciPy adds
@laws
@given(samples, samples)
def test_scipy_gives_the_same(a, b):
    expected = wasserstein_distance(a, b)
    assert cnt.divergence(a, b, "wasserstein") == pytest.approx(expected, rel=1e-9, abs=1e-12)
    expected = ks_2samp(a, b, method="asymp").statistic
    assert cnt.divergence(a, b, "kolmogorov-smirnov") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("bins", [None, 7, [-9.0, -1.0, 0.5, 9.0]])
def test_jensen_shannon_is_scipys_on_numpys_bins(bins):
    a, b = normal(400), normal(150, 0.7, 1.5)
    rule = "auto" if bins is None else bins
    edges = np.histogram_bin_edges(np.concatenate([a, b]), rule)
    p, q = (np.histogram(x, edges)[0] for x in (a, b))
    expected = jensenshannon(p, q, base=2) ** 2
    assert cnt.divergence(a, b, bins=bins) == pytest.approx(expected, rel=1e-9)


def test_a_case_that_fits_in_the_head():
    # p = (1, 0), q = (1/2, 1/2), middle (3/4, 1/4)
    bits = (np.log2(4 / 3) + 0.5 * np.log2(2 / 3) + 0.5 * np.log2(2)) / 2
    assert cnt.divergence([0, 0, 0], [0, 1], bins=2) == pytest.approx(bits, rel=1e-14)
    # a bin holds its lower edge, the last one both: (1/3, 2/3) and (0, 1)
    expected = jensenshannon([1, 2], [0, 3], base=2) ** 2
    found = cnt.divergence([0, 1, 1], [1, 2, 2], bins=[0, 1, 2])
    assert found == pytest.approx(expected, rel=1e-12)


def test_outliers_do_not_hide_a_difference():
    a, b = normal(2000), normal(2000, 3)
    plain = cnt.divergence(a, b)
    assert plain > 0.5
    assert cnt.divergence(np.append(a, 1e9), b) == pytest.approx(plain, abs=0.02)


@pytest.mark.parametrize("far", [0.5, 30])
def test_symmetric_kl_is_the_integral_over_scipys_densities(far):
    a, b = normal(80), normal(50, far, 0.6)
    pooled = np.concatenate([a, b])
    span = np.ptp(pooled)
    grid = np.linspace(pooled.min() - span, pooled.max() + span, 60_001)
    p, q = (
        (len(x) * gaussian_kde(x)(grid) + 1 / (3 * span)) / (len(x) + 1)  # one more, spread evenly
        for x in (a, b)
    )
    expected = np.trapezoid((p - q) * np.log(p / q), grid)
    assert cnt.divergence(a, b, "symmetric-kl") == pytest.approx(expected, rel=5e-3)


def test_symmetric_kl_of_normal_distributions():
    found = cnt.divergence(normal(20_000), normal(20_000, 1), "symmetric-kl")
    assert found == pytest.approx(1.0, rel=0.03)  # (difference of means / deviation) squared


@pytest.mark.parametrize("far", [1, 40])
def test_symmetric_kl_settles_on_finer_grids(far):
    a, b = normal(60), normal(60, far)
    coarse, *fine = (
        cnt.divergence(a, b, "symmetric-kl", bins=cells) for cells in (4096, 8192, 65536)
    )
    assert np.isfinite(coarse)
    assert fine == pytest.approx([coarse, coarse], rel=0.01)


def test_constants_have_a_divergence_too():
    assert 0 < cnt.divergence([1, 1], [2, 2], "symmetric-kl") < np.inf
    for kind in KINDS:
        assert cnt.divergence([3.0], [3.0, 3.0], kind) == 0


# -- how sure ---------------------------------------------------------------------------------


def by_hand(a, b, statistic, count, rng):
    """Interval and floor by resampling the values themselves."""
    drawn = [statistic(rng.choice(a, len(a)), rng.choice(b, len(b))) for _ in range(count)]
    pooled, dealt = np.concatenate([a, b]), []
    for _ in range(count):
        rng.shuffle(pooled)
        dealt.append(statistic(pooled[: len(a)], pooled[len(a) :]))
    low, high = np.quantile(drawn, (0.025, 0.975)) - np.mean(drawn) + statistic(a, b)
    return low, high, np.mean(dealt)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_interval_and_floor_are_those_of_resampling(kind):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=300), rng.normal(0.8, 1.2, size=200)
    edges = np.histogram_bin_edges(np.concatenate([a, b]), 12)
    statistic = {
        "jensen-shannon": lambda x, y: (
            jensenshannon(*(np.histogram(z, edges)[0] for z in (x, y)), base=2) ** 2
        ),
        "wasserstein": wasserstein_distance,
        "kolmogorov-smirnov": lambda x, y: ks_2samp(x, y, method="asymp").statistic,
    }[kind]
    bins = 12 if kind == "jensen-shannon" else None
    found = cnt.divergence(a, b, kind, bootstrap=1500, bins=bins)
    low, high, floor = by_hand(a, b, statistic, 400, rng)
    assert found.value == pytest.approx(statistic(a, b), rel=1e-9)
    assert found.floor == pytest.approx(floor, rel=0.1)
    width = high - low
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.2 * width)


def test_few_bins_and_many_values_are_resampled_alike():
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 5, 300), rng.integers(1, 6, 300)  # 6 values: by cells
    few = cnt.divergence(a, b, "wasserstein", bootstrap=2000)
    tiny = 1e-9 * rng.random((2, 300))  # all differ: value by value
    many = cnt.divergence(a + tiny[0], b + tiny[1], "wasserstein", bootstrap=2000)
    got = [[d.value, d.low, d.high, d.floor] for d in (few, many)]
    assert few.high - few.low > 0.3
    assert got[0] == pytest.approx(got[1], abs=0.04)


@pytest.mark.parametrize(("kind", "resamples"), [*zip(KINDS, (150, 150, 150, 25), strict=True)])
def test_noise_is_not_taken_for_a_difference(kind, resamples):
    rng = np.random.default_rng(3)
    found = [
        cnt.divergence(rng.normal(size=40), rng.normal(size=70), kind, resamples, seed)
        for seed in range(30)
    ]
    assert sum(d.low > d.floor for d in found) <= 3
    assert 6 < sum(d.value > d.floor for d in found) < 24
    apart = cnt.divergence(rng.normal(size=40), rng.normal(2, size=70), kind, resamples)
    assert apart.low > apart.floor


@laws
@given(samples, samples, kinds)
def test_the_value_is_within_its_interval(a, b, kind):
    found = cnt.divergence(a, b, kind, bootstrap=5)
    assert isinstance(found, cnt.Divergence)
    assert 0 <= found.low <= found.value <= found.high
    assert float(found) == found.value == cnt.divergence(a, b, kind)
    assert 0 <= found.floor < np.inf


def test_a_seed_gives_the_same_numbers():
    a, b = normal(30), normal(30, 1)
    assert cnt.divergence(a, b, bootstrap=50) == cnt.divergence(a, b, bootstrap=50, seed=0)
    assert cnt.divergence(a, b, bootstrap=50) != cnt.divergence(a, b, bootstrap=50, seed=1)


def of_networks(networks, *groups):
    """The distance of two groups of networks, by hand."""
    return wasserstein_distance(*(np.concatenate([networks[i] for i in g]) for g in groups))


def test_whole_samples_are_drawn():
    networks = [normal(50, mean) for mean in (0, 1, 2, 3, 4, 5)]
    one = between(networks[:1], networks[1:2], "wasserstein", 30)
    assert one.low == one.value == one.high == pytest.approx(one.floor) == pytest.approx(1)
    rng = np.random.default_rng(4)
    a, b = networks[::2], networks[1::2]
    found = between(a, b, "wasserstein", 1500)
    drawn, dealt = [], []
    for _ in range(400):
        order = rng.permutation(6)
        dealt.append(of_networks(networks, order[:3], order[3:]))
        even, odd = 2 * rng.integers(0, 3, (2, 3))
        drawn.append(of_networks(networks, even, odd + 1))
    low, high = np.quantile(drawn, (0.025, 0.975)) - np.mean(drawn) + found.value
    assert [found.low, found.high] == pytest.approx([max(0, low), high], abs=0.2)
    assert found.value == pytest.approx(wasserstein_distance(np.ravel(a), np.ravel(b)))
    assert found.floor == pytest.approx(np.mean(dealt), rel=0.1)
    assert found.low < found.floor, "three networks each, one apart, are no difference"
    as_values = cnt.divergence(a, b, "wasserstein", 200)
    assert as_values.floor < found.floor / 3, "values are far more, and not independent"


# -- what comes in --------------------------------------------------------------------------------


def test_anything_that_holds_numbers():
    a, b = normal(24).astype(np.float32), normal(24, 1).astype(np.float32)
    expected = cnt.divergence(a, b)
    grids = a.reshape(4, 6), b.reshape(2, 12)
    assert cnt.divergence(*grids) == expected
    assert cnt.divergence(*map(torch.tensor, grids)) == expected
    assert cnt.divergence(pd.Series(a), pd.DataFrame(grids[1])) == expected
    assert cnt.divergence(a.tolist(), tuple(b)) == expected
    half = torch.tensor(a, dtype=torch.bfloat16, requires_grad=True)
    assert cnt.divergence(half, half.detach().double().numpy()) == 0
    assert cnt.divergence([True, False], [0, 1], "wasserstein") == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1.7e308, 1e-310])
def test_the_largest_and_the_smallest_numbers(kind, size):
    one, two = np.array([-size, 0, size / 2]), np.array([0, size / 2, size])
    near = cnt.divergence(one / size, two / size, kind)
    found = cnt.divergence(one, two, kind)
    assert found == pytest.approx(near * (size if kind == "wasserstein" else 1), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_close_numbers_far_from_zero(kind):
    a, b = 1e9 + np.arange(50) / 2**20, 1e9 + np.arange(25, 75) / 2**20
    expected = cnt.divergence(np.arange(50), np.arange(25, 75), kind)
    scale = 2**-20 if kind == "wasserstein" else 1
    assert cnt.divergence(a, b, kind) == pytest.approx(expected * scale, rel=1e-6)


@pytest.mark.parametrize(
    ("a", "options", "said"),
    [
        ([], {}, "a is empty"),
        ([1, np.nan, np.nan, np.inf], {}, "a holds 2 NaN and 1 infinite values of 4"),
        (["one"], {}, "a does not hold numbers"),
        ([1j], {}, "a does not hold numbers"),
        ([1.0], {"kind": "jensen-shanon"}, "did you mean jensen-shannon"),
        ([1.0], {"kind": "wasserstein", "bins": 3}, "wasserstein has no bins"),
        ([1.0], {"kind": "kolmogorov-smirnov", "bins": 3}, "kolmogorov-smirnov has no bins"),
        ([1.0], {"kind": "symmetric-kl", "bins": 0}, "bins=0"),
        ([1.0], {"bins": 0}, "bins=0"),
        ([1.0], {"bins": [0.0, 0.0, 1.0]}, "do not rise"),
        ([1.0], {"bins": [0.0, 0.5]}, "2 of 3 values lie outside"),
        ([1.0], {"bootstrap": -1}, "bootstrap=-1"),
        ([1.0], {"bootstrap": 2.5}, "bootstrap=2.5"),
    ],
)
def test_what_is_refused(a, options, said):
    with pytest.raises(cnt.InputRefused) as refusal:
        cnt.divergence(a, [0.0, 1.0], **options)
    assert said in str(refusal.value)


def test_the_sample_that_is_empty_is_named():
    with pytest.raises(cnt.InputRefused, match="b is empty"):
        cnt.divergence([1], [])
