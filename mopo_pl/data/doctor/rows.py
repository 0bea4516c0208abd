"""Rows and episodes that stand in the log twice."""

from collections.abc import Iterator

import numpy as np

from mopo_pl.data.doctor.evidence import Evidence, Verdict


def copied_episodes(log: Evidence) -> Iterator[Verdict]:
    """Episodes of several steps that are equal to the bit."""
    copies = _copies_of_episodes(log)
    if copies.any():
        rows = int(log.lengths[copies].sum())
        yield Verdict(
            "WARN",
            f"{int(copies.sum())} of {len(copies)} episodes ({rows} rows) are copies of earlier ones, the first is "
            f"episode {int(copies.argmax())}",
            "leave them out: held-out rows would not be new",
        )


def copied_rows(log: Evidence) -> Iterator[Verdict]:
    """Rows equal to the bit outside copied episodes."""
    _, first = np.unique(_signatures(log), return_index=True)
    copied = np.ones(log.rows, bool)
    copied[first] = False
    copied[np.repeat(_copies_of_episodes(log), log.lengths)] = False
    if copied.sum() > max(5, 0.01 * log.rows):
        yield Verdict(
            "WARN",
            f"{int(copied.sum())} of {log.rows} rows are copies of earlier ones, the first is row {int(copied.argmax())}",
            "leave them out, unless the system rests there",
        )


def _copies_of_episodes(log: Evidence) -> np.ndarray:
    """Whether an episode of two steps or more has been there before [K] bool."""
    signatures, seen, copies = _signatures(log), set(), np.zeros(len(log.lengths), bool)
    for number, (end, length) in enumerate(zip(log.ends + 1, log.lengths, strict=True)):
        content = signatures[end - length : end].tobytes()
        copies[number] = length > 1 and content in seen
        seen.add(content)
    return copies


def _signatures(log: Evidence) -> np.ndarray:
    """One number for each row, the same for equal rows [N] uint64."""
    words = log.dataset.transitions.rows.numpy().view(np.uint32)
    factors = np.random.default_rng(0).integers(0, 2**64, words.shape[1], np.uint64, endpoint=False) | np.uint64(1)
    total = np.zeros(len(words), np.uint64)
    for column, factor in enumerate(factors):
        total += (words[:, column] + np.uint64(1)) * factor
    return total
