"""Intervals, tests and power for accuracies and for effects over seeds. All values are fractions."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats


@dataclasses.dataclass(frozen=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Effect:
    """A mean of per-seed paired differences.

    interval  two-sided t interval over seeds
    p         one-sided: how likely so large a mean were if the true effect were the smallest that counts
    seeds     number of differences
    """

    mean: float
    interval: Interval
    p: float
    seeds: int


def wilson(successes: float, n: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927); without continuity correction.

    Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials: not a proportion")
    z = stats.norm.ppf((1 + confidence) / 2)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # The limits are exactly 0 and 1 at the ends, and rounding must not push them outside.
    low = 0.0 if successes == 0 else max(centre - half, 0.0)
    high = 1.0 if successes == n else min(centre + half, 1.0)
    return Interval(float(low), float(high))


def share(flags: Iterable[float]) -> dict[str, float]:
    """The mean of flags (or of scores from 0 to 1) as a row of a table: value, low and high (95 % Wilson), n.

    Raises ValueError where there are none.
    """
    scores = [float(flag) for flag in flags]
    interval = wilson(sum(scores), len(scores))
    return {"value": sum(scores) / len(scores), "low": interval.low, "high": interval.high, "n": len(scores)}


def average(values: Iterable[float]) -> dict[str, float]:
    """The mean of any numbers as a row of a table: value, low and high (95 % t interval), n.

    Raises ValueError on fewer than two, or one that is not finite.
    """
    numbers = [float(value) for value in values]
    effect = paired_effect(numbers)
    return {"value": effect.mean, "low": effect.interval.low, "high": effect.interval.high, "n": len(numbers)}


def cohen_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """How much two coders agree beyond chance (Cohen 1960): 1 fully, 0 as by chance.

    Where both say one and the same thing of everything, there is nothing beyond chance: 1. Raises ValueError on no
    items, or different numbers of them.
    """
    if len(one) != len(other) or not one:
        raise ValueError(f"{len(one)} and {len(other)} codes: kappa needs the same items, at least one")
    n, first, second = len(one), Counter(one), Counter(other)
    agreed = sum(a == b for a, b in zip(one, other, strict=True)) / n
    expected = sum(first[code] * second[code] for code in first) / n**2
    return 1.0 if expected == 1 else (agreed - expected) / (1 - expected)


def mean_of_shares(groups: Sequence[Sequence[float]], *, resamples: int = 4000, seed: int = 0) -> dict[str, float]:
    """The mean of the groups' means (a macro average) as a row of a table: value, low, high, n.

    A 95 % percentile interval; items are resampled within their group. Raises ValueError where a group is empty.
    """
    if not groups or not all(len(group) for group in groups):
        raise ValueError("a mean of shares needs groups, each of one item or more")
    rng = np.random.default_rng(seed)
    means = [rng.choice(np.asarray(g, float), (resamples, len(g))).mean(axis=1) for g in groups]
    low, high = np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    value = float(np.mean([np.mean(group) for group in groups]))
    return {"value": value, "low": float(low), "high": float(high), "n": sum(map(len, groups))}


def counted(
    counts: Sequence[int], figure: Callable[[np.ndarray], np.ndarray], *, resamples: int = 4000, seed: int = 0
) -> dict[str, float | None]:
    """A figure of how often each outcome occurred, as a row of a table: value, low, high (95 % percentile), n.

    `figure` maps counts [..., outcomes] to values [...]. Items are resampled, so counts are multinomial. A value that
    is not a number (nothing to divide by) is None.
    """
    counts = np.asarray(counts)
    n = int(counts.sum())
    drawn = np.random.default_rng(seed).multinomial(n, counts / max(n, 1), size=resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        value, values = float(figure(counts.astype(float))), figure(drawn.astype(float))
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [0.025, 0.975]) if len(values) and np.isfinite(value) else (None, None)
    return {
        "value": value if np.isfinite(value) else None,
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
        "n": n,
    }


def paired_effect(differences: Sequence[float], *, smallest_effect: float = 0.0, confidence: float = 0.95) -> Effect:
    """Mean, t interval and one-sided p of per-seed differences (ours minus theirs, same seed).

    The test is against "the effect is at most `smallest_effect`". Differences that are all equal leave no
    spread to judge by: the interval is then a point, and p is 0 or 1.

    Raises ValueError on fewer than two differences, or one that is not finite.
    """
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"{values.tolist()}: an effect needs two or more finite per-seed differences")
    if np.ptp(values) == 0:
        mean = float(values[0])
        return Effect(mean, Interval(mean, mean), float(mean <= smallest_effect), len(values))
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    freedom = len(values) - 1
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    p = float(stats.t.sf((mean - smallest_effect) / error, freedom))
    return Effect(mean, Interval(mean - half, mean + half), p, len(values))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values in the order given; they bound the family-wise error (Holm 1979)."""
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"not p values: {list(p_values)}")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min((len(p_values) - rank) * p_values[place], 1.0))
        adjusted[place] = largest
    return adjusted


def hierarchical_bootstrap(
    differences: ArrayLike, *, confidence: float = 0.95, resamples: int = 4000, seed: int = 0
) -> Interval:
    """Percentile interval of the mean of a seeds x items matrix, both resampled with replacement.

    A row is one seed, a column one item (ours minus theirs, per item). Every resample draws rows and
    columns independently, so an item drawn counts for all seeds: right for an evaluation set that the seeds
    share, and for one of their own too, since columns of unrelated items vary less by themselves.

    Raises ValueError unless there are at least two rows and two columns of finite numbers.
    """
    matrix = np.asarray(differences, dtype=float)
    if matrix.ndim != 2 or min(matrix.shape) < 2 or not np.isfinite(matrix).all():
        raise ValueError(f"shape {matrix.shape}: give seeds x items, two or more of each, all finite")
    rng = np.random.default_rng(seed)
    seeds, items = matrix.shape
    rows = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    columns = rng.multinomial(items, np.full(items, 1 / items), size=resamples)
    means = ((rows @ matrix) * columns).sum(axis=1) / matrix.size
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def minimum_detectable_effect(
    deviation: float, seeds: int, *, smallest_effect: float = 0.0, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The true effect at which `paired_effect` has p < alpha in a share `power` of repetitions.

    `deviation` is the standard deviation of the per-seed differences; normal differences, one-sided t test
    (non-central t). For a family of claims give Holm's strictest level, alpha divided by their number.

    Raises ValueError on fewer than two seeds, no deviation, or a power that chance alone reaches.
    """
    if seeds < 2 or not deviation > 0 or not 0 < alpha < power < 1:
        raise ValueError(
            f"deviation {deviation}, {seeds} seeds, alpha {alpha}, power {power}: two or more seeds, a "
            "positive deviation and 0 < alpha < power < 1 are needed"
        )
    freedom = seeds - 1
    critical = stats.t.isf(alpha, freedom)
    shift = optimize.brentq(lambda s: stats.nct.sf(critical, freedom, s) - power, 0, critical + 20)
    return smallest_effect + float(shift) * deviation / math.sqrt(seeds)
