"""Counts what makes the host wait for the device, or the device for the host: on a GPU each empties its queue.

On a GPU CUDA itself says so (`torch.cuda.set_sync_debug_mode`). The count below looks at the operations instead, so that it
sees the same on a CPU, and on the device `meta`, which stands for a GPU in the tests.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "masked_select", "unique", "repeat_interleave")
"""Operations whose result, or its shape, the host must wait for."""
SENDS = ("lift_fresh",)
"""What `torch.tensor` of numbers calls: a copy from the host."""
COPIES = ("_to_copy", "copy_")
"""Operations that may copy between devices."""


class Waits(TorchDispatchMode):
    """Counts operations that make host and device wait for each other, and operations on tensors of two devices."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        self.operations += 1
        masked = name in ("index", "index_put", "index_put_") and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if masked or name in SENDS or name.startswith(READS):
            self.found[name] += 1
        # A number of the host, such as a tensor of shape [] there, goes along with the call; `where` copies it first.
        devices = {
            leaf.device
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, Tensor) and (leaf.dim() or name == "where")
        }
        if name in COPIES:
            devices |= {torch.device(kwargs["device"])} if kwargs.get("device") is not None else set()
            if len(devices) > 1 and not (kwargs.get("non_blocking") or (name == "copy_" and True in args[2:3])):
                self.found["copy between devices"] += 1
        elif len(devices) > 1:
            self.found[f"{name} of tensors on two devices"] += 1
        return func(*args, **kwargs)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count in a block."""
    with Waits() as mode:
        yield mode.found


def cuda_refuses(mode: str) -> None:
    """Let CUDA raise RuntimeError where the host would wait (`error`), or no longer (`default`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is a prototype feature
        torch.cuda.set_sync_debug_mode(mode)


@contextmanager
def refused_by_cuda() -> Iterator[None]:
    """Let CUDA raise RuntimeError in the block where the host would wait."""
    cuda_refuses("error")
    try:
        yield
    finally:
        cuda_refuses("default")


class InTrainingSteps(Callback):
    """Counts within every training step but the first, in which what is sent once is sent; on a GPU CUDA raises there."""

    def __init__(self) -> None:
        self.mode = Waits()
        self._counting = self._refusing = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin."""
        if batch_idx > 0:
            self._counting = True
            self.mode.__enter__()
            self._refusing = pl_module.device.type == "cuda"
            if self._refusing:
                cuda_refuses("error")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End."""
        self.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """End where a step raised, before the Trainer moves the module to the CPU, which waits."""
        self.stop()

    def stop(self) -> None:
        """Count and refuse no longer; the module may have left the device by now."""
        if self._counting:
            self._counting = False
            self.mode.__exit__(None, None, None)
        if self._refusing:
            self._refusing = False
            cuda_refuses("default")
