"""Lines for the user, printed once for all processes of a run."""

import lightning.fabric.utilities.rank_zero  # noqa: F401  reads this process's rank from its launcher
from lightning_utilities.core.rank_zero import rank_zero_only


@rank_zero_only
def print_once(text: str) -> None:
    """Print lines to standard output, on the first process alone."""
    print(text, flush=True)
