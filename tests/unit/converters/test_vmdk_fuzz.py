from __future__ import annotations

from tests.fuzz import vmdk


def test_hostile_streams_end_in_a_typed_error_or_the_right_bytes() -> None:
    """Some hundred cases; docs/fuzzing.md tells of the large runs."""
    report = vmdk.run(400, seed=7)
    assert report.defects == []
    assert report.cases == sum(report.outcomes.values()) == 400
    assert report.outcomes.keys() >= {"ok", "CorruptImage", "TruncatedImage", "UnsupportedFormat"}


def test_a_case_is_always_the_same() -> None:
    assert vmdk.make_case(3, 17) == vmdk.make_case(3, 17) != vmdk.make_case(3, 18)
