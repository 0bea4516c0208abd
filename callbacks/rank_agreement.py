"""Callback that checks at the end of each epoch that all devices of a run hold the same weights."""

import lightning as L

from mopo_pl.distributed.collectives import gather_from_ranks, world_size
from mopo_pl.errors import RanksDiffer
from mopo_pl.nn.logged_module import LoggedModule
from mopo_pl.nn.stored_weights import digest_of


class RanksAgree(L.Callback):
    """Compares hashes of every tensor of any LightningModule between the ranks at the end of each epoch.

    Raises RanksDiffer if they differ. Gradients that are by mistake not averaged over the ranks raise no error themselves; the
    weights of the ranks only become more and more different.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare the hashes of all ranks and raise RanksDiffer if they differ. Does nothing on a single device."""
        if world_size() == 1:
            return
        hashes = {name: digest_of([tensor]) for name, tensor in pl_module.state_dict().items()}
        everywhere = gather_from_ranks(hashes)
        differing = {name for name in hashes if len({ours[name] for ours in everywhere}) > 1}
        if differing:
            updates = pl_module.updates if isinstance(pl_module, LoggedModule) else trainer.global_step
            raise RanksDiffer(", ".join(sorted({name.partition(".")[0] for name in differing})), updates)
