"""The rules of the verdict at their boundaries."""

from dataclasses import replace

import pytest

from mopo_pl.diagnostics.estimates.hit_rates import HitRates
from mopo_pl.diagnostics.estimates.verdict import (
    DEPLOY,
    DO_NOT,
    MOST_DROPPED,
    MOST_UNCERTAINTY,
    UNSURE,
    VERDICTS,
    Estimate,
    Evidence,
    verdict,
)

NONE = HitRates.of([], VERDICTS)
GOOD = Evidence(
    model=Estimate(low=20, high=30, log=10, log_std=5, bias=-2),
    fqe=Estimate(low=2, high=3, log=1, log_std=1, bias=0.5),
    policy_uncertainty=2.0,
    log_uncertainty=1.0,
    dropped_share=0.0,
    health="OK",
)


def says(**changes) -> str:
    return verdict(replace(GOOD, **changes), NONE).says


def model(**changes) -> Estimate:
    return replace(GOOD.model, **changes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, DEPLOY),
        ({"low": 12.1}, DEPLOY),
        ({"low": 12.0}, UNSURE),  # the margin is the error on the clone
        ({"low": 12.1, "bias": 2.2}, UNSURE),
        ({"low": 0, "high": 8.0}, UNSURE),
        ({"low": 0, "high": 7.9}, DO_NOT),
        ({"bias": 5.0}, DEPLOY),
        ({"bias": -5.1}, UNSURE),  # more than a standard deviation of the log: not believed
        ({"low": 0, "high": 1, "bias": 5.1}, UNSURE),
    ],
)
def test_the_models_return_decides(changes: dict[str, float], expected: str) -> None:
    assert says(model=model(**changes)) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fqe": Estimate(low=-9, high=0.4, log=1, log_std=1, bias=0.5)}, UNSURE),
        ({"fqe": Estimate(low=-9, high=0.5, log=1, log_std=1, bias=0.5)}, DEPLOY),
        ({"fqe": Estimate(low=-9, high=-8, log=1, log_std=1, bias=1.1)}, DEPLOY),  # not believed: not counted
        ({"policy_uncertainty": MOST_UNCERTAINTY}, DEPLOY),
        ({"policy_uncertainty": MOST_UNCERTAINTY + 0.1}, UNSURE),
        ({"policy_uncertainty": 0.0, "log_uncertainty": 0.0}, DEPLOY),
        ({"policy_uncertainty": 0.1, "log_uncertainty": 0.0}, UNSURE),  # infinitely more than the log's
        ({"dropped_share": MOST_DROPPED}, DEPLOY),
        ({"dropped_share": MOST_DROPPED + 0.01}, UNSURE),
        ({"health": None}, DEPLOY),
        ({"health": "WARN"}, UNSURE),
        ({"health": "STOP"}, DO_NOT),
    ],
)
def test_the_rest_can_only_object(changes: dict, expected: str) -> None:
    assert says(**changes) == expected
    bad = verdict(replace(GOOD, model=model(low=0, high=1), **changes), NONE)
    assert bad.says == DO_NOT


def test_each_reason_has_its_numbers() -> None:
    found = verdict(replace(GOOD, model=model(bias=-6.0)), NONE)
    assert [reason.name for reason in found.reasons] == [
        *("model return", "fitted Q", "uncertainty", "dropped rollouts", "health"),
    ]
    assert found.reasons[0].text == (
        "20.0 to 30.0 in each elite, not believed: for the policy that made the log this estimate is wrong by -6.0, and at most 5.0 is "
        "allowed, 1 standard deviation of the log's returns"
    )
    assert found.reasons[2].text == "mean u of its rollouts is 2.0 times that of the log (at most 3.0)"


def sentence(given: tuple[int, int, int], beat: tuple[int, int, int]) -> str:
    """Of a log with these counts by verdict, and of two more on which each verdict was right once."""
    right: dict[str, tuple[int, int]] = dict(zip(VERDICTS, ((1, 1), (1, 0), (0, 0)), strict=True))
    counted: dict[str, tuple[int, int]] = dict(zip(VERDICTS, zip(given, beat, strict=True), strict=True))
    logs = {"a": counted, "b": right, "c": right} if sum(given) else {}
    return verdict(GOOD, HitRates(by_log=logs, verdicts=VERDICTS)).sentence()


def test_only_a_rule_that_beat_chance_is_a_certificate() -> None:
    assert sentence((10, 10, 4), (9, 1, 2)) == (
        "deploy for a trial: of 28 test runs of known return, 12 got this verdict, and 11 of these beat their log; of all 28, 14 did"
    )
    # Right in b and c by chance: 1/4. In a by symmetry P(k >= 5) = (1 + P(k = 5))/2, P(k = 5) = 792²/1961256 = 0.32: more than
    # 7 of 12 are right with P(k >= 5)/4 + P(k >= 6)/2 + P(k >= 7)/4 = 0.660/4 + 0.340/2 + 0.110/4.
    assert sentence((10, 10, 4), (5, 5, 2)) == (
        "the evidence says: deploy for a trial; no certificate: of 28 test runs of known return, 12 got this verdict, and 7 of "
        "these beat their log; of all 28, 14 did, which is not shown to be better than chance on several logs (p = 0.36)"
    )
    assert sentence((0, 0, 0), (0, 0, 0)) == (
        "the evidence says: deploy for a trial; how often this rule is right has not been measured yet on policies whose "
        "return is known, so that this is no certificate"
    )
    assert verdict(GOOD, NONE).as_json()["certified"] is False


def test_the_signs_of_health_are_named() -> None:
    reasons = verdict(replace(GOOD, health="WARN", health_signs=("log_left", "too_short")), NONE).reasons
    assert reasons[-1].text == "the training's health is WARN (log_left, too_short)"
