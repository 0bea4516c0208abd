"""What `estimates.json` holds, in words: the text of the command, and the lines in the summary of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def as_text(run: Path, found: Mapping[str, Any]) -> str:
    """What `python -m mopo_pl estimate RUN` prints."""
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
        f"  check    {_check(model)}",
        f"bound      λ {bound['coef']:.3g}, mean u {bound['epsilon_u']:.3g} (log {bound['epsilon_u_log']:.3g}): "
        f"return at least {bound['lower']:.1f} if λu bounds the model's error{_held(bound, found['true_return'])}",
        f"fitted Q   {fqe['policy']['mean']:.1f} discounted: seeds {_list(fqe['policy']['values'])}; lower bound "
        f"{fqe['policy']['lower']:.1f}; the log {log['forever']:.1f}",
        f"  check    {_check(fqe)}",
        f"verdict    {found['verdict']['sentence']}",
        *(f"  {reason['says']:<19}{reason['name']}: {reason['text']}" for reason in found["verdict"]["reasons"]),
    ]
    return "\n".join(lines)


def summary_lines(found: Mapping[str, Any]) -> str:
    """What the summary at the end of a run says of estimates."""
    earned, fqe = found["model"]["policy"]["return"], found["fqe"]["policy"]
    return (
        f"estimate {earned['mean']:.1f} in the model (elites {min(earned['elites']):.1f} to {max(earned['elites']):.1f}; on the "
        f"log's own policy it errs by {found['model']['bias']:+.1f}); fitted Q at least {fqe['lower']:.1f} discounted, the log "
        f"{found['log']['forever']:.1f}\n"
        f"verdict  {found['verdict']['sentence']}"
    )


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def _check(estimate: Mapping[str, Any]) -> str:
    believed = "believed" if estimate["believed"] else "not believed"
    return f"on the log's own policy, whose return is known, it errs by {estimate['bias']:+.1f}: {believed}"


def _held(bound: Mapping[str, Any], true_return: float | None) -> str:
    if bound["holds"] is None:
        return ""
    return f"; the true return {true_return:.1f} is {'above' if bound['holds'] else 'below'} it"
