"""Format the content of `estimates.json` as text, for the command `estimate` and for the summary of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mopo_pl.diagnostics.estimates.verdict import DEPLOY, NO_OBJECTION


def as_text(run: Path, found: Mapping[str, Any]) -> str:
    """Return the text that `python -m mopo_pl estimate RUN` prints."""
    protocol, log, model, fqe, bound = (found[name] for name in ("protocol", "log", "model", "fqe", "bound"))
    earned = model["policy"]["return"]
    lines = [
        f"run        {run}",
        f"log        return {log['return']:.1f} ± {log['std']:.1f} over {protocol['steps']} steps from {log['starts']} "
        f"{protocol['starts']}",
        f"model      return {earned['mean']:.1f}: elites {_list(earned['elites'])}; between them ± {earned['between']:.1f}, "
        f"within ± {earned['within']:.1f}, {protocol['rollouts_per_elite']} rollouts each",
        f"           penalised {model['policy']['penalised']['mean']:.1f}; {model['policy']['dropped_share']:.1%} dropped, "
        f"{model['policy']['ended']} of {model['policy']['rollouts']} ended",
        f"  check    {_check(model['log'], model['clone']['return']['mean'], model, log['std'])}",
        f"bound      λ {bound['coef']:.3g}, mean u {bound['epsilon_u']:.3g} (log {bound['epsilon_u_log']:.3g}): "
        f"return at least {bound['lower']:.1f} if λu bounds the model's error{_held(bound, found['true_return'])}",
        f"fitted Q   {fqe['policy']['mean']:.1f} discounted: seeds {_list(fqe['policy']['values'])}; lower bound "
        f"{fqe['policy']['lower']:.1f}; the log {log['forever']:.1f}",
        f"  check    {_check(log['forever'], fqe['clone']['mean'], fqe, log['forever_std'])}",
        f"verdict    {found['verdict']['sentence']}",
        *(f"  {_weight(reason):<19}{reason['name']}: {reason['text']}" for reason in found["verdict"]["reasons"]),
    ]
    return "\n".join(lines)


def summary_lines(found: Mapping[str, Any]) -> str:
    """Return the lines about the estimates in the summary at the end of a run."""
    earned, fqe = found["model"]["policy"]["return"], found["fqe"]["policy"]
    return (
        f"estimate {earned['mean']:.1f} in the model (elites {min(earned['elites']):.1f} to {max(earned['elites']):.1f}; "
        f"for the log's own policy the model is off by {found['model']['bias']:+.1f}); fitted Q at least {fqe['lower']:.1f} discounted, the log "
        f"{found['log']['forever']:.1f}\n"
        f"verdict  {found['verdict']['sentence']}"
        + "".join(
            f"\n         {reason['name']}, {_weight(reason)}: {reason['text']}"
            for reason in found["verdict"]["reasons"]
            if _weight(reason) not in (DEPLOY, NO_OBJECTION)
        )
    )


def _weight(reason: Mapping[str, Any]) -> str:
    return reason.get("weight", reason["says"])  # estimates of earlier versions have no weight


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _check(earned: float, estimated: float, estimate: Mapping[str, Any], spread: float) -> str:
    """Return the text about the check of an estimator on a clone of the log's policy, whose return is known from the log."""
    within = "at most" if estimate["believed"] else "more than"
    counts = "counts" if estimate["believed"] else "does not count"
    return (
        f"the log's own policy earned {earned:.1f}, and its clone is estimated at {estimated:.1f}: the error {estimate['bias']:+.1f} is "
        f"{within} one standard deviation of the log's returns ({spread:.1f}), so that the estimate above {counts}"
    )


def _held(bound: Mapping[str, Any], true_return: float | None) -> str:
    if bound["holds"] is None:
        return ""
    return f"; the true return {true_return:.1f} is {'above' if bound['holds'] else 'below'} it"
