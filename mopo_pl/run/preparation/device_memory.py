"""Compare the memory that a run needs on a GPU with the free memory, before anything is trained."""

import torch

from mopo_pl.config.schema import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.errors import InputError

FIXED = 0.5e9
"""Upper bound of kernels, workspaces of matrix products, and networks with their optimisers [bytes]."""
INDEX = 8
"""Size of the index of a row of the log [bytes]."""


def bytes_needed(config: Config, dataset: OfflineDataset) -> dict[str, float]:
    """Return the largest number of bytes that a run keeps on its device, by name of the data.

    The stages follow one another, so that only the largest stage counts. The ensemble's activations in a chunk of rollouts are counted
    as the outputs of two hidden layers.
    """
    rows = dataset.transitions.rows
    value = rows.element_size()
    width, on_host = rows.shape[1] * value, config.data.device == "cpu"
    log = {} if on_host else {"the log": float(rows.numel() * value)}
    stages = [log]
    if config.trains_model and not on_host:
        # The bootstrap samples, the order of an epoch, and the samples in that order.
        stages.append({**log, "the bootstrap samples": 3.0 * INDEX * config.dynamics.members * len(dataset)})
    if config.uses_model:
        rollout, members = config.rollout, config.dynamics.members
        chunk = min(rollout.chunk, rollout.starts)
        hidden = max(config.dynamics.hidden_sizes) * value
        stages.append(
            {
                **log,
                "the model buffer": float((rollout.retain_epochs * rollout.starts * rollout.horizon + 1) * width),
                "a chunk of rollouts": float(chunk * (2 * rollout.horizon * width + 2 * members * hidden)),
            }
        )
    return max(stages, key=lambda stage: sum(stage.values()))


def refuse_too_little_memory(config: Config, dataset: OfflineDataset, device: torch.device) -> None:
    """Raise InputError if a run needs more memory than is free on its GPU."""
    if device.type == "cuda":
        refuse(bytes_needed(config, dataset), torch.cuda.mem_get_info(device)[0], config)


def refuse(needed: dict[str, float], free: float, config: Config) -> None:
    """Raise InputError if the sum of `needed` and `FIXED` is more than `free` [bytes]."""
    total = sum(needed.values()) + FIXED
    if total <= free:
        return
    parts = ", ".join(f"{name} ({size / 1e9:.1f} GB)" for name, size in needed.items())
    ways = [] if config.data.device == "cpu" else ["data.device=cpu, which keeps the log in the host's memory"]
    ways += ["a smaller rollout.starts, rollout.retain_epochs or rollout.chunk"] if config.uses_model else []
    raise InputError(
        f"the run needs {total / 1e9:.1f} GB on the GPU for {parts} and {FIXED / 1e9:.1f} GB beside them, and "
        f"{free / 1e9:.1f} GB are free: set {', or '.join(ways) or 'trainer.accelerator=cpu'}"
    )
