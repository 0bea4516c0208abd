"""Hit rates: the stratified exact test by its classic example and by all permutations, and when a verdict is certified."""

import json
from itertools import permutations, product

import pytest

from mopo_pl.diagnostics.estimates.hit_rates import FEWEST_LABELS, FEWEST_LOGS, HitRates, Label, stored_hit_rates
from mopo_pl.diagnostics.estimates.verdict import VERDICTS


def rates(*tables: tuple[tuple[int, int], tuple[int, int]]) -> HitRates:
    """Of logs with (given, beat) of "y" and of "n"."""
    logs = {f"log {i}": dict(zip("yn", table, strict=True)) for i, table in enumerate(tables)}
    return HitRates(by_log=logs, verdicts=("y", "n"))


@pytest.mark.parametrize(("right", "chance"), [(4, 1 / 70), (3, 17 / 70), (2, 53 / 70), (0, 1.0)])
def test_the_lady_tasting_tea(right: int, chance: float) -> None:
    assert rates(((4, right), (4, 4 - right))).chance("y") == pytest.approx(chance)


def test_chance_is_the_share_of_all_permutations_within_logs_that_are_as_good() -> None:
    labels = {"a": (["y", "y", "n"], [True, False, False]), "b": (["y", "n", "n", "n"], [True, True, False, False])}
    found = HitRates.of(
        [
            Label(log, f"{log}{i}", said, won)
            for log, pairs in labels.items()
            for i, (said, won) in enumerate(zip(*pairs, strict=True))
        ],
        "yn",
    )

    def hits(said: tuple[str, ...] | list[str], won: list[bool]) -> int:
        return sum(each == "y" and beat for each, beat in zip(said, won, strict=True))

    counts = [[hits(said, won) for said in permutations(verdicts)] for verdicts, won in labels.values()]
    sums = [sum(pair) for pair in product(*counts)]
    assert found.chance("y") == pytest.approx(sum(total >= 2 for total in sums) / len(sums))


def test_logs_of_other_base_rates_prove_nothing() -> None:
    """In the log that all beat, "y" is said of all; in those that none beats, of none."""
    pooled = rates(((20, 20), (20, 0)))
    assert pooled.chance("y") < 1e-6
    apart = rates(((20, 20), (0, 0)), ((0, 0), (10, 0)), ((0, 0), (10, 0)))
    assert (apart.given, apart.beat) == (pooled.given, pooled.beat)
    assert apart.chance("y") == 1
    assert not apart.certifies("y")


def test_what_is_never_said_is_not_better_than_chance() -> None:
    never_said = rates(*[((0, 0), (10, 5))] * FEWEST_LOGS)
    assert never_said.chance("y") == 1
    assert not never_said.certifies("y")


def test_a_perfect_rule_is_certified_from_enough_runs_of_enough_logs_on() -> None:
    assert rates(*[((4, 4), (4, 0))] * FEWEST_LOGS).certifies("y")
    assert not rates(*[((4, 4), (4, 0))] * (FEWEST_LOGS - 1), ((4, 4), (0, 0))).certifies(
        "y"
    )  # the last one tells nothing
    assert not rates(*[((4, 4), (4, 0))] * (FEWEST_LOGS - 1), ((4, 4), (4, 4))).certifies("y")
    half = FEWEST_LABELS // 2
    assert not rates(((half, half), (half, 0))).certifies("y")  # one log
    few = [((3, 3), (3, 0))] * 3
    assert rates(*few, ((1, 1), (1, 0))).certifies("y")
    assert not rates(*few, ((1, 1), (0, 0))).certifies("y")  # 19 runs
    assert not rates(*[((4, 2), (4, 2))] * FEWEST_LOGS).certifies("y")
    assert not rates(*[((4, 0), (4, 4))] * FEWEST_LOGS).certifies("y")  # the wrong way round


def test_the_last_policy_of_each_run_counts_alone() -> None:
    labels = [
        Label("b", "1", "n", False),
        Label("b", "1", "y", True),
        Label("a", "1", "y", False),
        Label("b", "2", "n", True),
    ]
    found = HitRates.of(labels, "yn")
    assert (found.logs, found.given, found.beat) == (("a", "b"), {"y": 2, "n": 1}, {"y": 1, "n": 1})
    assert (found.labels, found.beat_log) == (3, 2)
    assert found.by_log == {"a": {"y": (1, 0), "n": (0, 0)}, "b": {"y": (1, 1), "n": (1, 1)}}
    assert HitRates.read(json.loads(json.dumps(found.as_json()))) == found


def test_the_stored_ones_are_of_the_verdicts_there_are() -> None:
    found = stored_hit_rates()
    assert set(found.given) == set(found.beat) == set(VERDICTS)
    assert all(0 <= found.beat[each] <= found.given[each] for each in VERDICTS)
    assert bool(found.labels) == bool(found.logs)
