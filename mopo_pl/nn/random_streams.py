"""Named random streams: one generator for each purpose, so that using one more of one changes none of the others."""

import hashlib

import torch


def generator_for(seed: int, purpose: str, rank: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of a purpose ("rollouts", "batches", …) on one rank: independent for every (seed, purpose, rank)."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{rank}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
