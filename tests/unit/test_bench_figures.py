"""The arithmetic of the benchmarks."""

from __future__ import annotations

import pytest

from tests.bench.control_loop import quantile
from tests.bench.figures import Figure


def test_a_quantile_is_interpolated_in_its_bucket_as_prometheus_does() -> None:
    buckets = {0.001: 50.0, 0.01: 90.0, 0.1: 100.0, float("inf"): 100.0}
    assert quantile(buckets, 0.5) == pytest.approx(0.001)
    assert quantile(buckets, 0.99) == pytest.approx(0.01 + 0.09 * 0.9)


def test_a_quantile_in_the_last_bucket_is_its_lower_edge() -> None:
    assert quantile({0.1: 1.0, float("inf"): 100.0}, 0.99) == pytest.approx(0.1)


def test_a_ratio_below_one_means_less_than_the_other() -> None:
    assert Figure("n", 1, 4, "s", "w").ratio == 0.25
