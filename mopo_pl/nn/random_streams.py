"""Named random streams: one generator for each purpose, so that using one more of one changes none of the others."""

import hashlib

import torch

from mopo_pl.errors import InputError


def stream(seed: int, purpose: str, rank: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of a purpose ("rollouts", "batches", …) on one rank: independent for every (seed, purpose, rank)."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{rank}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def continued(generator: torch.Generator, state: torch.Tensor) -> torch.Generator:
    """The generator, from a saved state on. Raises InputError where that is the state of another type of device."""
    try:
        generator.set_state(state.cpu())
    except RuntimeError as error:
        raise InputError(
            f"the checkpoint's random streams are those of another type of device than {generator.device.type}: "
            "continue on the type of device that wrote it"
        ) from error
    return generator
