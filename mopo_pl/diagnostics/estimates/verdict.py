"""The verdict on a policy without a simulator: deploy for a trial, do not deploy, or cannot tell; with what decided.

The model's return decides, where the model passes on the clone. All else can only object.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any, Literal

from mopo_pl.diagnostics.estimates.hit_rates import HitRates

Says = Literal["deploy for a trial", "do not deploy", "cannot tell"]
DEPLOY: Says = "deploy for a trial"
DO_NOT: Says = "do not deploy"
UNSURE: Says = "cannot tell"
VERDICTS: tuple[Says, ...] = (DEPLOY, DO_NOT, UNSURE)

MODEL_RETURN, FITTED_Q = "model return", "fitted Q"
"""The evidence that decides, and the one that objects only where it says *do not deploy*."""
OBJECTS, NO_OBJECTION = "objects", "no objection"
MOST_BIAS = 1.0
"""Largest error on the clone at which an estimator is believed [standard deviations of the log's returns]."""
MOST_UNCERTAINTY = 3.0
"""Largest mean u of the policy's rollouts [mean u of the log]."""
MOST_DROPPED = 0.05
"""Largest share of the policy's rollouts that were dropped."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A policy's return by one estimator, and that estimator's answer for the clone."""

    low: float
    """The lowest elite, or the lower bound of the seeds."""
    high: float
    """The highest elite, or the upper bound of the seeds."""
    log: float
    """What the log earned, in the same measure."""
    log_std: float
    """Standard deviation of that over its starts."""
    bias: float
    """The clone's estimate, less what the log earned."""

    @property
    def believed(self) -> bool:
        """Whether the estimator's error on the clone is within `MOST_BIAS` standard deviations of the log's returns."""
        return abs(self.bias) <= MOST_BIAS * self.log_std


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a verdict is made of."""

    model: Estimate
    """Returns in the elites."""
    fqe: Estimate
    """Fitted Q evaluation."""
    policy_uncertainty: float
    """Mean u in the policy's rollouts."""
    log_uncertainty: float
    """Mean u of logged rows."""
    dropped_share: float
    """Of the policy's rollouts."""
    health: str | None = None
    """OK, WARN or STOP of the training's health; None: not known."""
    health_signs: tuple[str, ...] = ()
    """Names of the signs that are not OK."""

    @classmethod
    def of(cls, estimates: Mapping[str, Any]) -> "Evidence":
        """What `estimates.json` holds (docs/guides/trust.md)."""
        log, model, fqe = estimates["log"], estimates["model"], estimates["fqe"]
        returns, policy = model["policy"]["return"]["elites"], fqe["policy"]
        return cls(
            model=Estimate(
                low=min(returns), high=max(returns), log=model["log"], log_std=log["std"], bias=model["bias"]
            ),
            fqe=Estimate(
                low=policy["lower"],
                high=policy["upper"],
                log=log["forever"],
                log_std=log["forever_std"],
                bias=fqe["bias"],
            ),
            policy_uncertainty=model["policy"]["epsilon_u"],
            log_uncertainty=log["epsilon_u"],
            dropped_share=model["policy"]["dropped_share"],
            health=estimates["health"],
            health_signs=tuple(estimates.get("health_signs", ())),
        )


@dataclass(frozen=True)
class Reason:
    """What one piece of evidence says."""

    name: str
    says: Says
    text: str
    """With the numbers that decided."""

    @property
    def weight(self) -> str:
        """What it adds to the verdict: the model's return decides, all else can only object, and health can forbid.

        >>> [
        ...     Reason(name, says, "").weight
        ...     for name, says in ((MODEL_RETURN, DEPLOY), (FITTED_Q, UNSURE), ("health", UNSURE))
        ... ]
        ['deploy for a trial', 'no objection', 'objects']
        """
        if self.name == MODEL_RETURN:
            return self.says
        if self.name == FITTED_Q:
            return OBJECTS if self.says == DO_NOT else NO_OBJECTION
        return {DEPLOY: NO_OBJECTION, UNSURE: OBJECTS, DO_NOT: DO_NOT}[self.says]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the evidence says, and what that was worth on labelled policies."""

    says: Says
    reasons: tuple[Reason, ...]
    hit_rates: HitRates

    @property
    def certified(self) -> bool:
        """Whether *deploy for a trial* beats chance on held-out labelled policies; without it no verdict is a certificate."""
        return self.hit_rates.certifies(DEPLOY)

    def sentence(self) -> str:
        """One line: the verdict with its hit rate, or that there is no certificate."""
        rates, said = self.hit_rates, self.says
        worth = (
            f"{rates.beat[said]} of {rates.given[said]} labelled runs with this verdict beat their log, of all "
            f"{rates.beat_log} of {rates.labels}"
        )
        if self.certified:
            return f"{said}: {worth}"
        if not rates.labels:
            return (
                f"the evidence says: {said}; how often this rule is right has not been measured yet on policies whose return is "
                "known, so that this is no certificate"
            )
        return (
            f"the evidence says: {said}; no certificate: {worth}, which is not shown to be better than chance on several logs "
            f"(p = {rates.chance(DEPLOY):.2f})"
        )

    def as_json(self) -> dict[str, Any]:
        """As it stands in `estimates.json`."""
        return {
            "says": self.says,
            "certified": self.certified,
            "sentence": self.sentence(),
            "reasons": [{**asdict(reason), "weight": reason.weight} for reason in self.reasons],
            "hit_rates": self.hit_rates.as_json(),
        }


def verdict(evidence: Evidence, hit_rates: HitRates) -> Verdict:
    """Weigh the evidence.

    *do not deploy*: the model's return says so, or health says STOP. *deploy for a trial*: the model's return says so, and nothing
    objects; fitted Q evaluation objects where it says *do not deploy*. Else *cannot tell*.
    """
    model = _compared(MODEL_RETURN, evidence.model, "in each elite")
    fqe = _compared(FITTED_Q, evidence.fqe, "mean ± 2 std over seeds")
    if fqe.says == UNSURE:
        fqe = replace(fqe, text=f"{fqe.text}: it is not counted")
    objections = [*_uncertainty(evidence), *_dropped(evidence), *_health(evidence)]
    if model.says == DO_NOT or any(reason.says == DO_NOT for reason in objections):
        said = DO_NOT
    elif model.says == DEPLOY and fqe.says != DO_NOT and all(reason.says == DEPLOY for reason in objections):
        said = DEPLOY
    else:
        said = UNSURE
    return Verdict(says=said, reasons=(model, fqe, *objections), hit_rates=hit_rates)


def _compared(name: str, estimate: Estimate, how: str) -> Reason:
    """An estimate against the log's return, with the error on the clone as a margin."""
    interval = f"{estimate.low:.1f} to {estimate.high:.1f} {how}"
    if not estimate.believed:
        return Reason(
            name,
            UNSURE,
            f"{interval}, not believed: it misses the return of the log's own policy by {estimate.bias:+.1f}, more than "
            f"{MOST_BIAS} of the log's standard deviation {estimate.log_std:.1f}",
        )
    margin = abs(estimate.bias)
    text = f"{interval}, the log {estimate.log:.1f}, error on the log's own policy {estimate.bias:+.1f}"
    if estimate.low - margin > estimate.log:
        return Reason(name, DEPLOY, text)
    if estimate.high + margin < estimate.log:
        return Reason(name, DO_NOT, text)
    return Reason(name, UNSURE, text)


def _uncertainty(evidence: Evidence) -> Sequence[Reason]:
    policy, log = evidence.policy_uncertainty, evidence.log_uncertainty
    ratio = policy / log if log > 0 else inf if policy > 0 else 0.0
    text = f"mean u of its rollouts is {ratio:.1f} times that of the log (at most {MOST_UNCERTAINTY:.1f})"
    return [Reason("uncertainty", DEPLOY if ratio <= MOST_UNCERTAINTY else UNSURE, text)]


def _dropped(evidence: Evidence) -> Sequence[Reason]:
    text = f"{evidence.dropped_share:.1%} of its rollouts left the range of the log (at most {MOST_DROPPED:.0%})"
    return [Reason("dropped rollouts", DEPLOY if evidence.dropped_share <= MOST_DROPPED else UNSURE, text)]


def _health(evidence: Evidence) -> Sequence[Reason]:
    if evidence.health is None:
        return []
    says = DEPLOY if evidence.health == "OK" else DO_NOT if evidence.health == "STOP" else UNSURE
    signs = f" ({', '.join(evidence.health_signs)})" if evidence.health_signs else ""
    return [Reason("health", says, f"the training's health is {evidence.health}{signs}")]
