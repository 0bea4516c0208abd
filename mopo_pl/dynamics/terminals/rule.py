"""The learned termination rule, and its files `termination.safetensors` and `termination.json`."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor, nn

from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.terminals.classifier import CLASSIFIER_ARGUMENTS, TerminalClassifier, unfitted
from mopo_pl.dynamics.terminals.scores import area_under_curve, best_threshold, reliability
from mopo_pl.errors import InputError
from mopo_pl.nn.hparams import plain_arguments
from mopo_pl.nn.stored_weights import read_weights, refuse_larger
from mopo_pl.storage.atomic_write import atomic_write
from mopo_pl.storage.stored_json import read_json

REPAIR = "remove termination.safetensors and termination.json there, and resume that run, which fits it again"
"""Advice in the error message for a rule that cannot be read."""
FIGURES = ("rows", "terminal", "found", "false", "auc", "calibration_error")
"""Names of the statistics of the held-out rows that the summary of a run shows."""


class LearnedRule(nn.Module):
    """Rule that ends an episode where the classifier's log odds are at or above a threshold."""

    threshold: Tensor

    def __init__(self, classifier: TerminalClassifier, threshold: float) -> None:
        """Create the rule. `classifier` is frozen in place; `threshold` is the lowest log odds at which a step is terminal."""
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)
        self.register_buffer("threshold", torch.tensor(threshold, dtype=torch.float32))

    def forward(self, observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
        """Return whether s' is terminal [B] bool, from s [B, D], a [B, A] in the log's units and s' [B, D]. NaN is terminal."""
        return ~(self.classifier(observations, actions, next_observations) < self.threshold)

    def hash(self) -> str:
        """Return the SHA-256 of weights, normaliser, threshold, and the share of terminal rows."""
        digest = hashlib.sha256(repr(self.classifier.share).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


@torch.no_grad()
def chosen_rule(classifier: TerminalClassifier, held_out: Transitions) -> tuple[LearnedRule, dict[str, Any]]:
    """Return the rule whose threshold has the highest F1 on held-out rows [n, W], and its statistics on these rows.

    The statistics AUC, calibration error and reliability do not depend on the threshold.
    """
    log_odds = classifier(held_out.observations, held_out.actions, held_out.next_observations).float().cpu()
    terminal = held_out.terminals.bool().cpu()
    threshold = best_threshold(log_odds, terminal)
    bins, error = reliability(log_odds, terminal)
    rule = LearnedRule(classifier, threshold.log_odds)
    return rule, {
        "threshold": float(rule.threshold.double().sigmoid()),
        "holdout": {
            "rows": len(held_out),
            "terminal": int(terminal.sum()),
            "found": threshold.found,
            "false": threshold.false,
            "auc": area_under_curve(log_odds, terminal),
            "calibration_error": error,
            "reliability": [bin._asdict() for bin in bins],
        },
    }


def save_rule(rule: LearnedRule, folder: Path, facts: dict[str, Any]) -> None:
    """Write the rule's two files atomically. `facts` are added to `termination.json`."""
    description = {"shape": plain_arguments(rule.classifier, CLASSIFIER_ARGUMENTS), "hash": rule.hash(), **facts}
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in rule.state_dict().items()}
    with atomic_write(folder / "termination.safetensors") as aside:
        aside.write_bytes(save(weights))
    with atomic_write(folder / "termination.json") as aside:
        aside.write_text(json.dumps(description, indent=2) + "\n")


def load_rule(folder: Path | str) -> LearnedRule:
    """Read a rule that `save_rule` wrote.

    Raises InputError if a file is missing or damaged, if the described network does not match the weights, or if the hash differs.
    """
    folder = Path(folder).expanduser()
    try:
        description = read_json(folder / "termination.json")
        weights = read_weights(folder / "termination.safetensors")
        shape = description["shape"]
        refuse_larger(shape, [2 * shape["obs_dim"] + shape["action_dim"], *shape["hidden_sizes"], 1], weights)
        if not 0 < shape["share"] < 1:
            raise ValueError(f"share={shape['share']} is no share of terminal rows")
        rule = LearnedRule(unfitted(**shape), 0.0)
        rule.load_state_dict(weights)
        sound = rule.hash() == description["hash"]
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no learned rule: its run was not trained with termination=learned") from error
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{folder} holds a damaged learned rule ({error}): {REPAIR}") from error
    if not sound:
        raise InputError(
            f"{folder / 'termination.safetensors'} does not fit termination.json: the hash differs: {REPAIR}"
        )
    return rule


def rule_facts(folder: Path) -> dict[str, Any]:
    """Return the training time [s], the threshold and the holdout's statistics from `termination.json`.

    Raises InputError if they are missing or are not numbers.
    """
    try:
        description = read_json(folder / "termination.json")
        facts = {name: description[name] for name in ("seconds", "threshold", "holdout")}
        numbers = [facts["seconds"], facts["threshold"], *(facts["holdout"][name] for name in FIGURES)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} holds a damaged learned rule ({error}): {REPAIR}") from error
    if not all(type(number) in (int, float) for number in numbers):
        raise InputError(f"{folder} holds a damaged learned rule (its figures are no numbers): {REPAIR}")
    return facts
