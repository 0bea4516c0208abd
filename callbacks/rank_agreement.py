"""Check at each epoch's end that all devices of a run hold the same weights."""

import lightning as L

from mopo_pl.distributed.collectives import gather_from_ranks, world_size
from mopo_pl.errors import RanksDiffer
from mopo_pl.nn.logged_module import LoggedModule
from mopo_pl.nn.stored_weights import digest_of


class RanksAgree(L.Callback):
    """Compares a hash of every tensor of a module, whichever it is, over the ranks at each epoch's end; raises RanksDiffer.

    Gradients that are not averaged leave no error, only weights that drift apart.
    """

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compares; nothing on a single device."""
        if world_size() == 1:
            return
        hashes = {name: digest_of([tensor]) for name, tensor in pl_module.state_dict().items()}
        everywhere = gather_from_ranks(hashes)
        differing = {name for name in hashes if len({ours[name] for ours in everywhere}) > 1}
        if differing:
            updates = pl_module.updates if isinstance(pl_module, LoggedModule) else trainer.global_step
            raise RanksDiffer(", ".join(sorted({name.partition(".")[0] for name in differing})), updates)
