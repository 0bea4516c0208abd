"""`BehaviourClone`: a clone of the policy that collected the log. Its true return is known from the log, so it tests an estimator."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.dynamics.rollouts import Act
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.sac.actor import TanhGaussianActor
from mopo_pl.sac.losses import cloning_error

UPDATES = 2000
BATCH = 256
HIDDEN_SIZES = (64, 64)
LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class BehaviourClone:
    """Policy a_t = π(s_t) + e_t: the mean action learned by behaviour cloning, plus the residual of the logged action.

    From a logged state, e follows the residuals of that state's episode. As long as a rollout follows the logged states, the clone acts as the
    log did. In a deterministic environment its return is therefore that of the log, whatever noise and however many policies collected it.
    """

    actor: TanhGaussianActor
    dataset: OfflineDataset
    residuals: Tensor
    """Residual a - π(s) of each logged row [N, A]."""

    def following(self, rows: Tensor) -> Act:
        """Return the policy for rollouts that start at logged rows [B]; it must be called once a step.

        At the end of the logged episode, e starts again from the episode's first row. The policy also takes K·B states: K copies of the B starts,
        one copy after another.
        """
        ends, lengths = self.dataset.episode_ends, self.dataset.episode_lengths()
        episode = torch.searchsorted(ends, rows, right=True)
        first, length = (ends - lengths)[episode], lengths[episode]
        step = 0

        def act(observations: Tensor, noise: Tensor) -> Tensor:
            nonlocal step
            row = first + (rows - first + step) % length
            step += 1
            left = self.residuals[row].repeat(len(observations) // len(rows), 1)
            return (self.actor.mean_action(observations) + left).clamp(-1, 1)

        return act

    @torch.no_grad()
    def next_actions(self) -> Tensor:
        """Return the clone's action at each row's next state [N, A]: the next logged action, and π(s') + e at the end of an episode."""
        log = self.dataset.transitions
        taken = torch.cat([log.actions[1:], log.actions[-1:]])
        last = self.dataset.episode_ends - 1
        taken[last] = (self.actor.mean_action(log.next_observations[last]) + self.residuals[last]).clamp(-1, 1)
        return taken


def fit_clone(dataset: OfflineDataset, *, seed: int, updates: int = UPDATES) -> BehaviourClone:
    """Fit a clone to the actions of a log by `updates` updates of Adam on `sac.losses.cloning_error`."""
    rows, generator = dataset.transitions, generator_for(seed, "clone")
    actor = TanhGaussianActor(
        obs_dim=rows.obs_dim,
        action_dim=rows.action_dim,
        hidden_sizes=HIDDEN_SIZES,
        log_std_min=-5.0,
        log_std_max=2.0,
        normaliser=Normaliser.fit(rows.observations),
        generator=generator_for(seed, "clone weights"),
    )
    optimizer = torch.optim.Adam(actor.parameters(), lr=LEARNING_RATE, fused=True)
    for _ in range(updates):
        batch = rows[torch.randint(len(rows), (BATCH,), generator=generator)]
        optimizer.zero_grad()
        cloning_error(actor.mean_action(batch.observations), batch.actions).mean().backward()
        optimizer.step()
    actor.requires_grad_(False)
    return BehaviourClone(actor, dataset, rows.actions - actor.mean_action(rows.observations))
