"""Named random generators: one per purpose, so that additional draws for one purpose do not change the others."""

import hashlib

import torch

from mopo_pl.errors import InputError


def generator_for(seed: int, purpose: str, rank: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded by the SHA-256 of (seed, purpose, rank), independent for each such triple.

    `purpose` is a name such as "rollouts" or "batches", `rank` the index of the process, `device` the device of the drawn numbers.

    >>> first, second = generator_for(0, "batches"), generator_for(0, "batches")
    >>> torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=second))
    True
    >>> torch.equal(torch.rand(3, generator=first), torch.rand(3, generator=generator_for(0, "rollouts")))
    False
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{rank}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def continued(generator: torch.Generator, state: torch.Tensor) -> torch.Generator:
    """Set the generator to a saved state and return it. Raises InputError if the state is of another type of device."""
    try:
        generator.set_state(state.cpu())
    except RuntimeError as error:
        raise InputError(
            f"the checkpoint's random streams are those of another type of device than {generator.device.type}: "
            "continue on the type of device that wrote it"
        ) from error
    return generator
