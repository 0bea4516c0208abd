"""Console output of the first process only."""

import lightning.fabric.utilities.rank_zero  # noqa: F401  sets rank_zero_only.rank from the launcher's variables
from lightning_utilities.core.rank_zero import rank_zero_only


@rank_zero_only
def print_once(text: str) -> None:
    """Print text to standard output on rank 0 only."""
    print(text, flush=True)
