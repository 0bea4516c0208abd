"""Small logs, and models of them whose returns are known in closed form."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.termination import never

EVERYWHERE = StateLimits(torch.tensor([-torch.inf]), torch.tensor([torch.inf]))


class KnownModel(TransitionModel):
    """Members with given functions of s [B, 1] and a [B, 1] for (r, Δs) [B, 2], and one standard deviation for all."""

    def __init__(self, members: Sequence[Callable[[Tensor, Tensor], Tensor]], std: float = 0.0) -> None:
        self.members, self.std = members, std
        self.ensemble: Any = SimpleNamespace(action_dim=1)
        self.elites = torch.arange(len(members))

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        mean = torch.stack([member(inputs[:, :1], inputs[:, 1:]) for member in self.members])
        return mean, torch.full_like(mean, self.std)


def decaying(rate: float, bonus: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    """r = s + bonus, s' = (1 - rate)·s."""
    return lambda s, a: torch.cat([s + bonus, -rate * s], -1)


def penalised(transition: TransitionModel, **changes: Any) -> PenalisedModel:
    """With u = 2 everywhere, λ = 3, of which 1.5 is free."""
    given = {"penalty": lambda mean, std: torch.full_like(mean[0, :, 0], 2.0), "coef": 3.0, "free": 1.5}
    return PenalisedModel(transition=transition, **{"termination": never, **given, **changes})


def dataset_of(
    observations: np.ndarray,
    actions: np.ndarray,
    following: np.ndarray,
    rewards: np.ndarray,
    *,
    lengths: Sequence[int],
    finished: bool = True,
    terminal: Sequence[int] = (),
) -> OfflineDataset:
    """A log of episodes of these lengths; `terminal`: rows."""
    flags = torch.zeros(len(rewards))
    flags[list(terminal)] = 1
    s, a, after, r = (
        torch.as_tensor(array, dtype=torch.float32) for array in (observations, actions, following, rewards)
    )
    ends = torch.tensor(lengths).cumsum(0)
    return OfflineDataset(
        name="known",
        hash="",
        transitions=Transitions.pack(s, a, after, r, flags),
        episode_ends=ends,
        finished=torch.full((len(lengths),), finished),
        next_known=torch.ones(len(rewards), dtype=torch.bool),
        action_low=-np.ones(1, np.float32),
        action_high=np.ones(1, np.float32),
    )


def steered_log(episodes: int, steps: int, seed: int = 0) -> OfflineDataset:
    """s' = 0.9 s + 0.3 a and r = s', without noise; actions are those of a noisy policy whose gain differs by episode."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(episodes):
        state, gain = rng.uniform(-1, 1), rng.uniform(0, 1)
        for _ in range(steps):
            action = np.clip(-gain * state + 0.4 * rng.standard_normal(), -1, 1)
            after = 0.9 * state + 0.3 * action
            rows.append((state, action, after, after))
            state = after
    s, a, after, r = np.array(rows).T
    return dataset_of(s[:, None], a[:, None], after[:, None], r, lengths=[steps] * episodes)


def steered(bonus: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    """The dynamics of `steered_log`, each reward `bonus` too high."""
    return lambda s, a: torch.cat([0.9 * s + 0.3 * a + bonus, -0.1 * s + 0.3 * a], -1)
