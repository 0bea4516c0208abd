"""Reports of arrays of the file that are not used, and of changes that the reader made."""

import re
from collections.abc import Iterator, Sequence

from mopo_pl.data.doctor.evidence import Evidence, Verdict, some
from mopo_pl.data.readers.names import shown

LATER = r"next|new|after|following|later|t_?plus_?1|t\+1|\'"
"""Pattern of the words that the name of a next state adds to the name of the state."""


TIMES = ("time", "timestamp", "datetime", "date")
"""Common names of an array of times. Such an array is used only if the user names it, as gaps in time end an episode."""


def unused_arrays(log: Evidence) -> Iterator[Verdict]:
    """Report arrays that are not used.

    The level is STOP if no next states were found, and an array may contain them by its shape or by the names of its columns.
    """
    shape = log.raw.observations.shape
    alike = [array for array in log.raw.unused if array.shape == shape and log.raw.next_missing and not array.known]
    if alike:
        keys = some([shown(array.key) for array in alike])
        yield Verdict(
            "STOP",
            f"{keys} has the shape of the observations {list(shape)} and is not used, and no next states were found",
            f"set data.columns.next_observation={shown(alike[0].key)} if it holds them, "
            "else data.columns.next_observation=none",
        )
    keys = [array.key for array in log.raw.unused if array not in alike]
    later = _later(log.dataset.names.observations, keys) if log.raw.next_missing else []
    if later:
        names = ", ".join(f'"{shown(name)}"' for name in later)
        yield Verdict(
            "STOP",
            f"{some([shown(name) for name in later])} are named after the observations and not used, and no next states "
            "were found",
            f"set data.columns.next_observation=[{names}] if they hold them, else data.columns.next_observation=none",
        )
    others = [array for array in log.raw.unused if array not in alike and array.key not in later]
    if others:
        times = [shown(array.key) for array in others if array.key.lower() in TIMES]
        named = f"data.columns.time={times[0]} if it holds the time of each row; " if times else ""
        yield Verdict(
            "WARN",
            f"not used: {some([f'{shown(array.key)} {list(array.shape)}' for array in others])}",
            f"{named}data.columns.FIELD=KEY names an array",
        )


def _later(observations: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return the columns that are named after each observation with the same word for a next state, such as `next_temp`; else an empty list.

    >>> _later(("temp", "flow"), ["flow_next", "temp_next", "temp_limit", "flow_limit"])
    ['temp_next', 'flow_next']
    """
    if not observations:
        return []
    for key in keys:
        before, found, after = key.partition(observations[0])
        if found and re.search(LATER, before + after, re.IGNORECASE):
            family = [f"{before}{name}{after}" for name in observations]
            if set(family) <= set(keys):
                return family
    return []


def reading(log: Evidence) -> Iterator[Verdict]:
    """Report what the reader left out, rearranged or assumed."""
    for remark in log.raw.remarks:
        yield Verdict("WARN", remark, "")
