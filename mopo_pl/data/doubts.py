"""What looks like a mistake in a log, though it can be read."""

from collections.abc import Iterator

from mopo_pl.data.dataset import OfflineDataset

MANY = 1000
"""Rows from which a log without any marked end is suspicious."""
SEVERAL = 5
"""Terminal episodes of one length from which chance is no explanation."""


def doubts(dataset: OfflineDataset) -> Iterator[str]:
    """One sentence for each thing a user should look at; none of them stops a run."""
    log, lengths = dataset.transitions, dataset.episode_lengths()
    ended = lengths[log.terminals[dataset.episode_ends - 1].bool()]
    if len(ended) >= SEVERAL and len(ended.unique()) == 1 and ended[0] > 1:
        yield (
            f"all {len(ended)} terminal episodes last {int(ended[0])} steps: if that is a time limit, it belongs in "
            "`timeouts`, or the policy learns that time kills"
        )
    if len(lengths) == 1 and len(dataset) >= MANY:
        yield f"no end of an episode is marked in {len(dataset)} rows: are `timeouts` or data.time_limit missing?"
    constant = (log.observations == log.observations[0]).all(0).nonzero().flatten().tolist()
    if constant:
        yield f"observation columns {constant} never change"
    if bool((log.rewards == log.rewards[0]).all()):
        yield f"every reward is {float(log.rewards[0]):g}: nothing can be learned from them"
