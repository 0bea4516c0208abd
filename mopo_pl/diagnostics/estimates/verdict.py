"""Verdict on a policy without a simulator: deploy for a trial, do not deploy, or cannot tell; with the reasons for it.

The model's return decides, provided that the model estimates the return of the clone well enough. All other evidence can only object.
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
"""Names of the evidence that decides, and of the evidence that objects only where its conclusion is *do not deploy*."""
OBJECTS, NO_OBJECTION = "objects", "no objection"
MOST_BIAS = 1.0
"""Largest error on the clone up to which an estimator is trusted [standard deviations of the log's returns]."""
MOST_UNCERTAINTY = 3.0
"""Largest accepted mean u of the policy's rollouts [mean u of the log]."""
MOST_DROPPED = 0.05
"""Largest accepted share of the policy's rollouts that were dropped."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Return of a policy by one estimator, with the error of this estimator on the clone."""

    low: float
    """Return in the lowest elite, or lower bound over seeds."""
    high: float
    """Return in the highest elite, or upper bound over seeds."""
    log: float
    """Return of the log, in the same measure."""
    log_std: float
    """Standard deviation of the log's return over its starts."""
    bias: float
    """Estimate for the clone minus the return of the log."""

    @property
    def believed(self) -> bool:
        """Return whether the error on the clone is at most `MOST_BIAS` standard deviations of the log's returns."""
        return abs(self.bias) <= MOST_BIAS * self.log_std


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Evidence from which the verdict is derived."""

    model: Estimate
    """Estimate from the returns in the elites."""
    fqe: Estimate
    """Estimate by fitted Q evaluation."""
    policy_uncertainty: float
    """Mean u in the policy's rollouts."""
    log_uncertainty: float
    """Mean u on logged rows."""
    dropped_share: float
    """Share of the policy's rollouts that were dropped."""
    health: str | None = None
    """Health of the training: OK, WARN or STOP; None where it is not known."""
    health_signs: tuple[str, ...] = ()
    """Names of the health signs that are not OK."""

    @classmethod
    def of(cls, estimates: Mapping[str, Any]) -> "Evidence":
        """Read the evidence from the contents of `estimates.json` (docs/guides/trust.md)."""
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
    """Conclusion from one piece of evidence."""

    name: str
    says: Says
    text: str
    """Explanation with the numbers that decided."""

    @property
    def weight(self) -> str:
        """Return the contribution to the verdict: the model's return decides, health can forbid, all other evidence can only object.

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
    """Verdict with its reasons and its hit rates on labelled policies."""

    says: Says
    reasons: tuple[Reason, ...]
    hit_rates: HitRates

    @property
    def certified(self) -> bool:
        """Return whether *deploy for a trial* is better than chance on held-out labelled policies; otherwise no verdict is certified."""
        return self.hit_rates.certifies(DEPLOY)

    def sentence(self) -> str:
        """Return one sentence with the verdict and its hit rate, or with the remark that it is not certified."""
        rates, said = self.hit_rates, self.says
        worth = (
            f"of {rates.labels} test runs of known return, {rates.given[said]} got this verdict, and {rates.beat[said]} of these beat "
            f"their log; of all {rates.labels}, {rates.beat_log} did"
        )
        advice = ". Treat it as a no: try other settings, or more data" if said == UNSURE else ""
        if self.certified:
            return f"{said}: {worth}{advice}"
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
        """Return the entry of `estimates.json`."""
        return {
            "says": self.says,
            "certified": self.certified,
            "sentence": self.sentence(),
            "reasons": [{**asdict(reason), "weight": reason.weight} for reason in self.reasons],
            "hit_rates": self.hit_rates.as_json(),
        }


def verdict(evidence: Evidence, hit_rates: HitRates) -> Verdict:
    """Derive the verdict from the evidence.

    *do not deploy*: the model's return leads to it, or health is STOP. *deploy for a trial*: the model's return leads to it, and no
    other evidence objects; fitted Q evaluation objects only with *do not deploy*. *cannot tell*: all other cases.
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
    """Compare an estimate with the log's return; the error on the clone is the margin."""
    interval = f"{estimate.low:.1f} to {estimate.high:.1f} {how}"
    if not estimate.believed:
        return Reason(
            name,
            UNSURE,
            f"{interval}, not believed: for the policy that made the log this estimate is wrong by {estimate.bias:+.1f}, and at most "
            f"{MOST_BIAS * estimate.log_std:.1f} is allowed, {MOST_BIAS:g} standard deviation of the log's returns",
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
