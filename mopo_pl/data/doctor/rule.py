"""Checks that the termination rule agrees with the logged terminals, or that it can be learned."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor.evidence import some_rows
from mopo_pl.data.findings import Finding

NAME = "termination-rule"
FEW = 5
"""Largest number of contradictions for which the level is not STOP."""
FEWEST_TO_LEARN = 5
"""Smallest number of terminal rows with a known next state, and of other such rows, with which a rule can be learned."""
ENOUGH_TO_LEARN = 50
"""Number of terminal rows with a known next state below which a learned rule gives a WARN."""
SHARE_GOING_ON = 0.01
"""Share of the rows that continue in the log but end by the rule, above which the level is STOP."""
SHARE_TERMINAL = 0.05
"""Share of the terminal rows that continue by the rule, above which the level is STOP."""


def rule_findings(rule: str, ended: Tensor, dataset: OfflineDataset, *, reads_next: bool = True) -> Iterator[Finding]:
    """Compare a rule with the logged terminals, and yield a finding for each of the two kinds of contradiction.

    Args:
        rule: How messages name the rule.
        ended: Whether the rule ends the episode in each logged row, [N] bool.
        dataset: The log.
        reads_next: Whether the rule reads s', so that rows without a known s' are ignored.

    """
    terminal = dataset.transitions.terminals.bool()
    known = dataset.next_known if reads_next else torch.ones_like(terminal)
    limits = torch.zeros_like(terminal)
    limits[dataset.episode_ends - 1] = True
    for wrong, among, share, text, fix in (
        (
            # An episode may reach a terminal state in the step of its time limit, and be logged with the limit only.
            ended & ~terminal & known & ~limits,
            ~terminal & known,
            SHARE_GOING_ON,
            "ends the episode in {count} of {total} rows where the log goes on",
            "give another rule, or another env_id",
        ),
        (
            ~ended & terminal & known,
            terminal & known,
            SHARE_TERMINAL,
            "goes on in {count} of {total} rows that the log calls terminal",
            "give a rule that knows them; if they are time limits, mark them in timeouts instead",
        ),
    ):
        count, total = int(wrong.sum()), int(among.sum())
        if count:
            yield Finding(
                "STOP" if count > max(FEW, share * total) else "WARN",
                NAME,
                f"termination={rule} {text.format(count=count, total=total)} (row {some_rows(np.asarray(wrong))})",
                fix,
            )


def learnable_findings(dataset: OfflineDataset) -> Iterator[Finding]:
    """Yield a finding if the log has no or few rows from which a rule can be learned."""
    terminal = dataset.transitions.terminals.bool()
    total, known = int(terminal.sum()), int((terminal & dataset.next_known).sum())
    others = int((~terminal & dataset.next_known).sum())
    known_of = f"{known} terminal rows with a known next state" + (f" (of {total})" if known < total else "")
    if total == 0:
        text, fix = "termination=learned: the log has no terminal row to learn from", "termination=never fits it"
        yield Finding("STOP", NAME, text, fix)
    elif known < FEWEST_TO_LEARN:
        yield Finding(
            "STOP",
            NAME,
            f"termination=learned: the log has {known_of}, and at least {FEWEST_TO_LEARN} are needed",
            "add next observations, or give limits of columns or a function",
        )
    elif others < FEWEST_TO_LEARN:
        yield Finding(
            "STOP",
            NAME,
            f"termination=learned: {others} rows of the log are not terminal, and at least {FEWEST_TO_LEARN} are needed",
            "give limits of columns or a function",
        )
    elif known < ENOUGH_TO_LEARN:
        yield Finding(
            "WARN",
            NAME,
            f"termination=learned: the log has {known_of}, which is little to learn from",
            "look at the held-out AUC in termination.json, or give limits of columns or a function",
        )
