"""Checks for rows and episodes that are in the log twice."""

from collections.abc import Iterator

import numpy as np

from mopo_pl.data.doctor.evidence import Evidence, Verdict


def copied_episodes(log: Evidence) -> Iterator[Verdict]:
    """Report episodes of at least two steps that are exact copies of earlier ones."""
    copies = log.copies
    if copies.any():
        rows = int(log.lengths[copies].sum())
        yield Verdict(
            "WARN",
            f"{int(copies.sum())} of {len(copies)} episodes ({rows} rows) are copies of earlier ones, the first is "
            f"episode {int(copies.argmax())}",
            "leave them out: held-out rows would not be new",
        )


def copied_rows(log: Evidence) -> Iterator[Verdict]:
    """Report rows outside copied episodes that are exact copies of earlier ones."""
    _, first = np.unique(log.signatures, return_index=True)
    copied = np.ones(log.rows, bool)
    copied[first] = False
    copied[np.repeat(log.copies, log.lengths)] = False
    if copied.sum() > max(5, 0.01 * log.rows):
        yield Verdict(
            "WARN",
            f"{int(copied.sum())} of {log.rows} rows are copies of earlier ones, the first is row {int(copied.argmax())}",
            "leave them out, unless the system rests there",
        )
