#!/usr/bin/env python3
"""A penalty of one's own: u is the disagreement of the members about the next state alone, not about the reward.

python examples/own_penalty.py runs/own_penalty

This is `python -m mopo_pl train penalty.name=own_penalty:next_state_disagreement`, with this file on Python's path. Settings after
the folder go to the training: `penalty.coef=1.0`.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor

from mopo_pl import cli


def next_state_disagreement(mean: Tensor, std: Tensor) -> Tensor:
    """u = max_i ‖μ_i - mean_j μ_j‖₂ over the coordinates of the state.

    mean, std: of (r, Δs) by each member [E, B, 1 + D]; column 0 is the reward. Returns u [B], at least 0, in the units of the
    state. λ (`penalty.coef`) turns it into units of the reward.
    """
    state = mean[..., 1:]
    return torch.linalg.vector_norm(state - state.mean(0), dim=-1).amax(0)


def main(arguments: list[str]) -> int:
    """Trains on the pendulum's log with this penalty."""
    folder, *settings = arguments
    # `module:function` is imported by its name, so that the configuration of the run stays plain text.
    sys.path.insert(0, str(Path(__file__).parent))
    name = f"penalty.name={Path(__file__).stem}:{next_state_disagreement.__name__}"
    return cli.main([name, "penalty.coef=1.0", f"run_dir={folder}", *settings])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
