"""Hit rates: Fisher's exact test by its classic example, and when a verdict is certified."""

import pytest

from mopo_pl.diagnostics.estimates.hit_rates import FEWEST_LABELS, HitRates, stored_hit_rates
from mopo_pl.diagnostics.estimates.verdict import VERDICTS


def rates(given: tuple[int, int], beat: tuple[int, int]) -> HitRates:
    return HitRates(logs=("a",), given=dict(zip("yn", given, strict=True)), beat=dict(zip("yn", beat, strict=True)))


@pytest.mark.parametrize(("right", "chance"), [(4, 1 / 70), (3, 17 / 70), (2, 53 / 70), (0, 1.0)])
def test_the_lady_tasting_tea(right: int, chance: float) -> None:
    assert rates((4, 4), (right, 4 - right)).chance("y") == pytest.approx(chance)


def test_what_is_never_said_is_not_better_than_chance() -> None:
    assert rates((0, 30), (0, 10)).chance("y") == 1
    assert not rates((0, 30), (0, 10)).certifies("y")


def test_a_perfect_rule_is_certified_from_enough_labels_on() -> None:
    half = FEWEST_LABELS // 2
    assert rates((half, half), (half, 0)).certifies("y")
    assert not rates((half, half - 1), (half, 0)).certifies("y")
    assert not rates((half, half), (half // 2, half // 2)).certifies("y")
    assert not rates((half, half), (0, half)).certifies("y")  # the wrong way round


def test_counts_are_those_of_the_labels() -> None:
    labels = [("b", "y", True), ("a", "y", False), ("b", "n", True)]
    found = HitRates.of(labels, "yn")
    assert (found.logs, found.given, found.beat) == (("a", "b"), {"y": 2, "n": 1}, {"y": 1, "n": 1})
    assert (found.labels, found.beat_log) == (3, 2)


def test_the_stored_ones_are_of_the_verdicts_there_are() -> None:
    found = stored_hit_rates()
    assert set(found.given) == set(found.beat) == set(VERDICTS)
    assert all(0 <= found.beat[each] <= found.given[each] for each in VERDICTS)
    assert bool(found.labels) == bool(found.logs)
