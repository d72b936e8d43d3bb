from __future__ import annotations

import pytest

from tests.fuzz import ova


@pytest.mark.parametrize("kind", ova.KINDS)
def test_hostile_files_end_in_a_typed_error_or_a_sound_result(kind: str) -> None:
    """Some hundred cases of each; docs/fuzzing.md tells of the large runs."""
    report = ova.run(kind, 300, seed=7)
    assert report.defects == []
    assert report.cases == sum(report.outcomes.values()) == 300
    assert len(report.outcomes) >= 2


@pytest.mark.parametrize("kind", ova.KINDS)
def test_a_case_is_always_the_same(kind: str) -> None:
    assert ova.make_case(kind, 3, 17) == ova.make_case(kind, 3, 17) != ova.make_case(kind, 3, 18)
