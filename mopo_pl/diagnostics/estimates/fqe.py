"""Fitted Q evaluation: the value of a policy from logged rows alone (Le et al. 2019, arXiv:1903.08738), for several seeds at once.

For policies whose actions lie outside the data the estimate is often wrong. Read it as the lower bound mean - 2 std over seeds. A large
spread over seeds is a warning.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mopo_pl.data.transitions import Transitions
from mopo_pl.nn.layers import BatchedLinear, Normaliser, uniform_
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.losses import polyak_, reachable_returns

SEEDS = 3
UPDATES = 6000
BATCH = 128
HIDDEN_SIZES = (64, 64)
LEARNING_RATE = 1e-3
TAU = 0.05
"""Weight τ of the networks in the moving average of the target networks, at each update."""


@dataclass(frozen=True)
class FittedValues:
    """Mean Q value over a policy's start states, one value for each seed."""

    values: Tensor
    """Mean value for each seed, [S] float64."""

    def summary(self) -> dict[str, Any]:
        """Return the entry of `estimates.json`.

        >>> FittedValues(torch.tensor([1.0, 2.0, 3.0])).summary()
        {'values': [1.0, 2.0, 3.0], 'mean': 2.0, 'min': 1.0, 'std': 1.0, 'lower': 0.0, 'upper': 4.0}
        """
        mean, std = float(self.values.mean()), float(self.values.std(unbiased=True))
        return {
            "values": self.values.tolist(),
            "mean": mean,
            "min": float(self.values.min()),
            "std": std,
            "lower": mean - 2 * std,
            "upper": mean + 2 * std,
        }


class _Networks(nn.Module):
    """M networks Q_m(s, a) = c + b·f_m(s, a) with ReLU and LayerNorm; each network has its own batch, [M, B, D + A] in total."""

    def __init__(
        self, members: int, inputs: int, hidden_sizes: Sequence[int], centre: float, scale: float, seed: int
    ) -> None:
        super().__init__()
        sizes = [inputs, *hidden_sizes, 1]
        self.centre, self.scale = centre, scale
        self.layers = nn.ModuleList(
            BatchedLinear(members=members, inputs=i, outputs=o) for i, o in itertools.pairwise(sizes)
        )
        generator = generator_for(seed, "fqe weights")
        for layer in self.layers:
            uniform_(layer, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs [M, B, D + A] to Q [M, B]."""
        hidden = inputs
        for layer in self.layers[:-1]:
            hidden = layer(hidden)
            hidden = torch.relu(nn.functional.layer_norm(hidden, hidden.shape[-1:]))
        return self.centre + self.scale * self.layers[-1](hidden).squeeze(-1)


def fitted_values(
    rows: Transitions,
    next_actions: Tensor,
    starts: Tensor,
    start_actions: Tensor,
    *,
    discount: float,
    centre: float,
    scale: float,
    seed: int,
    seeds: int = SEEDS,
    updates: int = UPDATES,
    batch_size: int = BATCH,
    hidden_sizes: Sequence[int] = HIDDEN_SIZES,
    learning_rate: float = LEARNING_RATE,
    tau: float = TAU,
) -> list[FittedValues]:
    """Evaluate P policies on the same rows, each by `seeds` networks with different initial weights and batches.

    Minimises (Q(s, a) - y)² with y = r + γ(1 - terminal)·Q̄(s', a'). a' is the policy's action at s', and Q̄ is a moving average of Q. y is
    clipped to the returns that the log's rewards allow (`sac.losses.reachable_returns`).

    Args:
        rows: Logged rows whose next state is known, or which are terminal [N, W].
        next_actions: a' of each policy at each row's next state [P, N, A] in [-1, 1].
        starts: States over which the value is averaged [n, D].
        start_actions: Actions of each policy in these states [P, n, A].
        discount: γ.
        centre: Approximate mean value of the log, around which the networks start.
        scale: Approximate spread of values in the log, above 0.
        seed: Seed of weights and batches.
        seeds: S, the number of networks for each policy.
        updates: Number of updates of Adam.
        batch_size: Rows of one update of a network.
        hidden_sizes: Widths of the hidden layers.
        learning_rate: Initial step size of Adam, which decreases linearly to 0.
        tau: τ of the moving average.

    """
    policies, observations = len(next_actions), Normaliser.fit(rows.observations)
    inputs = torch.cat([observations(rows.observations), rows.actions], -1)
    next_states = observations(rows.next_observations)
    members, device = policies * seeds, rows.rows.device
    networks = _Networks(members, inputs.shape[-1], hidden_sizes, centre, scale, seed).to(device)
    target = _Networks(members, inputs.shape[-1], hidden_sizes, centre, scale, seed).to(device).requires_grad_(False)
    optimizer = torch.optim.Adam(networks.parameters(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, updates)
    bounds, generator = reachable_returns(rows.rewards, discount), generator_for(seed, "fqe batches")
    policy = torch.arange(policies).repeat_interleave(seeds).unsqueeze(1)
    # Row first, so that a batch needs one gather.
    actions = next_actions.transpose(0, 1).contiguous()
    for _ in range(updates):
        # For each seed, all policies use the same rows: their estimates then differ only because of the policies.
        index = torch.randint(len(rows), (seeds, batch_size), generator=generator).repeat(policies, 1)
        with torch.no_grad():
            following = target(torch.cat([next_states[index], actions[index, policy]], -1))
            goal = rows.rewards[index] + discount * (1 - rows.terminals[index]) * following
            goal = goal.clamp(*bounds)
        optimizer.zero_grad()
        loss = ((networks(inputs[index]) - goal) / scale).square().mean(1).sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        polyak_(target.parameters(), networks.parameters(), tau)
    with torch.no_grad():
        begin = observations(starts).expand(policies, *starts.shape)
        states = torch.cat([begin, start_actions], -1).repeat_interleave(seeds, 0)
        values = networks(states).double().clamp(*bounds).mean(1).view(policies, seeds)
    return [FittedValues(each) for each in values]
