"""Check that a known reward function gives the logged rewards."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor.evidence import some_rows
from mopo_pl.data.findings import Finding

NAME = "known-reward"
ROUNDING = (1e-3, 1e-5)
"""Tolerances for rounding: in standard deviations of the logged rewards, and as a share of the logged reward of the row."""
MOST = 0.5
"""Share of differing rows above which the level is STOP."""


def reward_findings(name: str, given: Tensor, dataset: OfflineDataset) -> Iterator[Finding]:
    """Compare the result of a reward function with the logged reward, in rows with a known next state.

    Args:
        name: How messages name the function.
        given: r(s, a, s') of each logged row, [N].
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
