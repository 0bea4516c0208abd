"""Whether a known reward gives the logged rewards."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor.evidence import some_rows
from mopo_pl.data.findings import Finding

NAME = "known-reward"
ROUNDING = (1e-3, 1e-5)
"""Differences up to here are rounding [standard deviations of the logged rewards], [shares of the row's own]."""
MOST = 0.5
"""Share of the rows above which a function that differs stops."""


def reward_findings(name: str, given: Tensor, dataset: OfflineDataset) -> Iterator[Finding]:
    """Compare what a function gives for each row with what was logged, where the next state is known.

    Args:
        name: As messages call it.
        given: r(s, a, s') of each logged row [N].
        dataset: The log.

    """
    known = dataset.next_known.numpy()
    ours, logged = given.double().numpy(), dataset.transitions.rewards.double().numpy()
    broken = known & ~np.isfinite(ours)
    if broken.any():
        yield Finding(
            "STOP",
            NAME,
            f"reward={name} gives NaN or inf in {int(broken.sum())} of {int(known.sum())} rows (row {some_rows(broken)})",
            "let it give a number for every logged row",
        )
    known &= ~broken
    distance = np.where(known, np.abs(np.where(known, ours, 0.0) - logged), 0.0)
    wrong = distance > ROUNDING[0] * logged.std() + ROUNDING[1] * np.abs(logged)
    count, total = int(wrong.sum()), int(known.sum())
    if count:
        row = int(wrong.argmax())
        yield Finding(
            "STOP" if count > MOST * total else "WARN",
            NAME,
            f"reward={name} differs from the logged reward in {count} of {total} rows, by {np.median(distance[wrong]):.3g} "
            f"in the median of these (row {row}: it gives {ours[row]:.6g}, logged is {logged[row]:.6g})",
            "mend the function, which is given actions in the log's units, or leave reward= out: the reward is then learned",
        )
