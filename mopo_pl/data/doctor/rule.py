"""Whether the termination rule agrees with the logged terminals."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor.evidence import some_rows
from mopo_pl.data.findings import Finding

NAME = "termination-rule"
FEW = 5
"""Contradictions up to which none stops."""
FEWEST_TO_LEARN = 5
"""Terminal rows with a known next state without which no rule can be learned, and as many others."""
ENOUGH_TO_LEARN = 50
"""Terminal rows with a known next state below which a learned rule is a WARN."""
SHARE_GOING_ON = 0.01
"""Share of the rows that go on, above which a rule that ends them stops."""
SHARE_TERMINAL = 0.05
"""Share of the terminal rows above which a rule that goes on there stops."""


def rule_findings(rule: str, ended: Tensor, dataset: OfflineDataset, *, reads_next: bool = True) -> Iterator[Finding]:
    """Compare a rule with the logged terminals, both ways.

    Args:
        rule: As messages call it.
        ended: What it says of each logged row [N] bool.
        dataset: The log.
        reads_next: Whether it looks at s', so that rows without a true one say nothing.

    """
    terminal = dataset.transitions.terminals.bool()
    known = dataset.next_known if reads_next else torch.ones_like(terminal)
    limits = torch.zeros_like(terminal)
    limits[dataset.episode_ends - 1] = True
    for wrong, among, share, text, fix in (
        (
            # An episode may fail in the step of its time limit, and be logged as limited.
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
    """Whether the log has the rows that a rule can be learned from."""
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
