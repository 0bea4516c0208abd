"""Whether each array of the file has been used, and what the reader has changed."""

from collections.abc import Iterator

from mopo_pl.data.doctor.evidence import Evidence, Verdict, some
from mopo_pl.data.readers.names import shown


def unused_arrays(log: Evidence) -> Iterator[Verdict]:
    """STOP where one has the shape of the observations and no next states were found: it may hold them."""
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
    others = [array for array in log.raw.unused if array not in alike]
    if others:
        yield Verdict(
            "WARN",
            f"not used: {some([f'{shown(array.key)} {list(array.shape)}' for array in others])}",
            "data.columns.FIELD=KEY names an array",
        )


def reading(log: Evidence) -> Iterator[Verdict]:
    """What was left out or rearranged."""
    for remark in log.raw.remarks:
        yield Verdict("WARN", remark, "")
