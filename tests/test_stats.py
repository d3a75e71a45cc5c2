"""Intervals, tests and power against closed forms, tables and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigorl_lib.stats import (
    cohen_kappa,
    hierarchical_bootstrap,
    holm,
    minimum_detectable_effect,
    paired_effect,
    share,
    wilson,
)


# Reference values: statsmodels.stats.proportion.proportion_confint(..., method="wilson").
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (5, 10, 0.236593090512564, 0.763406909487436),
        (81, 263, 0.255288519878, 0.366209576983),  # Newcombe 1998, table I: .2553 … .3662
        (1, 29, 0.006113214332, 0.171755219214),  # .0061 … .1718
        (0, 20, 0.0, 0.161125157764),
        (20, 20, 0.838874842236, 1.0),
    ],
)
def test_wilson_matches_published_intervals(successes, n, low, high):
    interval = wilson(successes, n)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_share_and_is_symmetric(case):
    successes, n = case
    interval, mirrored = wilson(successes, n), wilson(n - successes, n)
    assert 0 <= interval.low <= successes / n <= interval.high <= 1
    assert interval.low == pytest.approx(1 - mirrored.high) and interval.high == pytest.approx(1 - mirrored.low)


def test_wilson_solves_its_own_equation():
    interval = wilson(37, 120, confidence=0.9)
    for limit in (interval.low, interval.high):
        assert abs(37 / 120 - limit) / math.sqrt(limit * (1 - limit) / 120) == pytest.approx(1.6448536, abs=1e-6)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_what_is_no_proportion(successes, n):
    with pytest.raises(ValueError, match="not a proportion"):
        wilson(successes, n)


def test_a_share_is_the_row_of_a_table():
    interval = wilson(2, 3)
    row = {"value": 2 / 3, "low": interval.low, "high": interval.high, "n": 3}
    assert share([True, False, True]) == share(np.array([1.0, 0.0, 1.0])) == share(iter((1, 1, 0))) == row
    assert share([0.5, 0.5])["value"] == 0.5  # graders may give half a point
    with pytest.raises(ValueError, match="0 trials"):
        share([])


def test_paired_effect_matches_the_t_table():
    # mean .03, standard deviation .01581, five seeds: t(4, .975) = 2.7764
    effect = paired_effect([0.01, 0.02, 0.03, 0.04, 0.05])
    half = 2.776445105 * math.sqrt(0.00025) / math.sqrt(5)
    assert effect.mean == pytest.approx(0.03) and effect.seeds == 5
    assert (effect.interval.low, effect.interval.high) == pytest.approx((0.03 - half, 0.03 + half))
    # With two differences the t distribution is Cauchy's, whose tail is arctangent.
    effect = paired_effect([0.0, 0.1], smallest_effect=0.02)
    assert effect.p == pytest.approx(0.5 - math.atan((0.05 - 0.02) / 0.05) / math.pi)


def test_paired_effect_at_the_smallest_effect_is_undecided():
    assert paired_effect([0.02, 0.05, 0.08], smallest_effect=0.05).p == pytest.approx(0.5)
    assert paired_effect([0.02, 0.05, 0.08], smallest_effect=0.2).p > 0.9


def test_paired_effect_without_spread():
    assert paired_effect([0.1, 0.1, 0.1]).p == 0
    effect = paired_effect([0.1, 0.1, 0.1], smallest_effect=0.1)
    assert effect.p == 1 and effect.interval.low == effect.interval.high == effect.mean


@pytest.mark.parametrize("differences", [[], [0.1], [0.1, math.nan], [[0.1, 0.2]]])
def test_paired_effect_needs_two_finite_differences(differences):
    with pytest.raises(ValueError, match="two or more finite"):
        paired_effect(differences)


def test_holm_matches_the_worked_example():
    # Sorted values times 4, 3, 2, 1, never falling, at most 1; also statsmodels' multipletests.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    with pytest.raises(ValueError, match="not p values"):
        holm([0.1, 1.2])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_lies_between_the_raw_values_and_bonferroni(p_values):
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(len(p_values) * p, 1) + 1e-12
    ranked = [q for _, q in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


def test_bootstrap_of_pure_seed_noise_is_the_seeds_spread():
    # No item varies within a seed, so the mean's standard deviation is that of the seeds: sqrt(var / n).
    seeds = np.linspace(-1, 1, 41)
    interval = hierarchical_bootstrap(np.repeat(seeds[:, None], 10, axis=1))
    half = 1.96 * seeds.std() / math.sqrt(len(seeds))
    assert (interval.low, interval.high) == pytest.approx((-half, half), abs=0.04)


def test_bootstrap_of_pure_item_noise_is_the_items_spread():
    items = np.linspace(-1, 1, 401)
    interval = hierarchical_bootstrap(np.repeat(items[None, :], 5, axis=0))
    half = 1.96 * items.std() / math.sqrt(len(items))
    assert (interval.low, interval.high) == pytest.approx((-half, half), abs=0.01)


def test_bootstrap_is_wider_than_either_alone_and_repeatable():
    rng = np.random.default_rng(0)
    matrix = 0.3 + 0.2 * rng.standard_normal((5, 1)) + rng.standard_normal((1, 200)) + np.zeros((5, 200))
    both = hierarchical_bootstrap(matrix)
    items = hierarchical_bootstrap(np.repeat(matrix.mean(axis=0, keepdims=True), 5, axis=0))
    assert both.high - both.low > items.high - items.low
    assert hierarchical_bootstrap(matrix) == both
    assert both.low < matrix.mean() < both.high


@pytest.mark.parametrize("matrix", [[[1.0, 2.0]], [[1.0], [2.0]], [1.0, 2.0], [[1.0, math.inf], [0.0, 1.0]]])
def test_bootstrap_needs_a_matrix(matrix):
    with pytest.raises(ValueError, match="seeds x items"):
        hierarchical_bootstrap(matrix)


def test_minimum_detectable_effect_matches_the_power_tables():
    # statsmodels TTestPower().solve_power(nobs=n, alpha=.05, power=.8, alternative="larger"), in deviations.
    assert minimum_detectable_effect(1.0, 5) == pytest.approx(1.3595, abs=1e-3)
    assert minimum_detectable_effect(1.0, 30) == pytest.approx(0.4648, abs=1e-3)
    assert minimum_detectable_effect(0.02, 5, smallest_effect=0.05) == pytest.approx(0.05 + 0.02 * 1.3595, abs=1e-4)


def test_an_effect_of_that_size_is_found_as_often_as_promised():
    rng = np.random.default_rng(1)
    true = minimum_detectable_effect(0.03, 4, smallest_effect=0.05)
    draws = rng.normal(true, 0.03, size=(2000, 4))
    found = np.mean([paired_effect(row, smallest_effect=0.05).p < 0.05 for row in draws])
    assert found == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("change", [{"seeds": 1}, {"deviation": 0.0}, {"power": 0.04}])
def test_minimum_detectable_effect_refuses_nonsense(change):
    with pytest.raises(ValueError, match="are needed"):
        minimum_detectable_effect(**{"deviation": 0.1, "seeds": 5} | change)


def test_cohens_kappa():
    # Cohen's own kind of table: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no.
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(one, other) == pytest.approx(0.4)
    assert cohen_kappa(one, one) == 1 and cohen_kappa(["a"], ["a"]) == 1
    assert cohen_kappa(["a", "b"], ["b", "a"]) == -1
    with pytest.raises(ValueError, match="same items"):
        cohen_kappa(["a"], [])
