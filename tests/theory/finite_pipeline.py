"""A finite MDP as the pipeline sees one: states and actions are vectors, the model an ensemble of networks.

Every member maps (s, a) to one next state with certainty, so that T̂, in which each step is drawn from a random elite, is
the uniform mixture of the elites' maps. σ is 0 on states; the members' σ of the reward carry u, as noise of mean zero.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.packing import assemble
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.known_steps import StateLimits
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.penalised_model import PenalisedModel
from mopo_pl.dynamics.penalties import max_aleatoric
from mopo_pl.dynamics.rollouts import branch
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.theory.distances import TotalVariation, model_distances
from mopo_pl.theory.mdp import Array, FiniteMDP

STATES, ACTIONS, MEMBERS, OBS, ACTION = 12, 3, 7, 3, 2
TERMINAL = STATES - 1
ELITES = [5, 0, 3, 6, 2]
ROWS, DISCOUNT = 2000, 0.9
EVERYWHERE = StateLimits(torch.full((OBS,), -torch.inf), torch.full((OBS,), torch.inf))


@dataclass(frozen=True)
class Codes:
    """What stands for states and actions; whole and half numbers, of which float32 loses nothing in sums."""

    states: Tensor
    """[S, D]."""
    actions: Tensor
    """[A, 2] in [-1, 1]."""

    def state(self, vectors: Tensor) -> Tensor:
        """Which states [...] the vectors [..., D] are; AssertionError where one is none."""
        return self._index(vectors, self.states)

    def action(self, vectors: Tensor) -> Tensor:
        """Which actions [...] the vectors [..., 2] are."""
        return self._index(vectors, self.actions)

    @staticmethod
    def _index(vectors: Tensor, codes: Tensor) -> Tensor:
        same = (vectors.unsqueeze(-2) == codes).all(-1)
        assert same.any(-1).all(), "a vector that stands for nothing"
        return same.long().argmax(-1)


class FiniteEnsemble(nn.Module):
    """In the place of `GaussianEnsemble`: mean and log σ² of (r, Δs) from tables."""

    def __init__(self, codes: Codes, maps: Tensor, rewards: Tensor, deviations: Tensor) -> None:
        """`maps` [E, S, A] next states, `rewards` [S, A], `deviations` [E, S, A] of the reward."""
        super().__init__()
        self.obs_dim, self.action_dim, self.members = OBS, ACTION, MEMBERS
        self.codes, self.maps, self.rewards, self.deviations = codes, maps, rewards.float(), deviations.float()

    def in_raw_units(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        s, a = self.codes.state(inputs[:, :OBS]), self.codes.action(inputs[:, OBS:])
        change = self.codes.states[self.maps[:, s, a]] - self.codes.states[s]
        reward = self.rewards[s, a].expand(MEMBERS, -1).unsqueeze(-1)
        log_var = torch.full((MEMBERS, len(inputs), 1 + OBS), -torch.inf)
        log_var[..., 0] = 2 * self.deviations[:, s, a].log()
        return torch.cat([reward, change], -1), log_var


@dataclass(frozen=True)
class Pipeline:
    """M with its log, M̂ as an ensemble, a policy, and what the theory says of them."""

    mdp: FiniteMDP
    """M, which starts where the log's rows start."""
    model: FiniteMDP
    """M̂."""
    u: Array
    """Total variation between the two [S, A], what the members' σ say."""
    probabilities: Array
    """π(a|s) [S, A]."""
    codes: Codes
    transition: TransitionModel
    dataset: OfflineDataset

    def penalised(self, coef: float) -> PenalisedModel:
        """The pipeline's M̃."""
        return PenalisedModel(transition=self.transition, penalty=max_aleatoric, coef=coef, termination=self.ended)

    def ended(self, observations: Tensor, actions: Tensor, following: Tensor) -> Tensor:
        """The rule of termination [B]."""
        return (following == self.codes.states[TERMINAL]).all(-1)

    def policy(self, observations: Tensor, noise: Tensor) -> Tensor:
        """π as the pipeline calls it: s [B, D] and ε ~ N(0, I) [B, 2] to a [B, 2], by the inverse of its distribution function."""
        cumulative = torch.tensor(self.probabilities).cumsum(-1)[self.codes.state(observations)]
        uniform = torch.special.ndtr(noise[:, :1].double())
        return self.codes.actions[(cumulative[:, :-1] < uniform).sum(-1)]

    def data(self) -> OfflineDataModule:
        """Batches of 64 of which 16 are real."""
        return OfflineDataModule(
            self.dataset,
            batch_size=64,
            real_ratio=0.25,
            updates_per_epoch=1,
            updates_per_step=1,
            retain=1,
            capacity=100_000,
            refresh_folder=None,
            seed=0,
        )

    def estimate(self, model: PenalisedModel, horizon: int, rollouts: int, seed: int) -> tuple[float, float]:
        """Mean over imagined rollouts of Σ_{t<h} γᵗ r̃_t, from the log's states, and its standard error."""
        generator = generator_for(seed, "theory")
        starts = self.data().sample_starts(rollouts, generator)
        rollout = branch(model, self.policy, starts, horizon, EVERYWHERE, generator)
        weights = DISCOUNT ** torch.arange(horizon, dtype=torch.float64).unsqueeze(-1)
        returns = (torch.where(rollout.valid, rollout.transitions.rewards.double(), 0.0) * weights).sum(0)
        return float(returns.mean()), float(returns.std()) / rollouts**0.5

    def pairs(self, rows: Transitions) -> tuple[np.ndarray, np.ndarray]:
        """The (s, a) of rows."""
        return self.codes.state(rows.observations).numpy(), self.codes.action(rows.actions).numpy()


def build(seed: int = 0) -> Pipeline:
    """A random one, whose model errs by another amount at each (s, a); the last state is terminal."""
    rng = np.random.default_rng(seed)
    # T̂ is what the elites' maps come to; T differs from it by a share of something else.
    maps = rng.integers(STATES, size=(MEMBERS, STATES, ACTIONS))
    maps[5] = maps[3]
    learned = np.eye(STATES)[maps[ELITES]].mean(0)
    share = rng.random((STATES, ACTIONS, 1))
    truth = (1 - share) * learned + share * rng.dirichlet(np.ones(STATES), (STATES, ACTIONS))
    rewards = rng.integers(0, 9, (STATES, ACTIONS)) / 8
    states, actions = rng.integers(STATES - 1, size=ROWS), rng.integers(ACTIONS, size=ROWS)
    start = np.bincount(states, minlength=STATES) / ROWS
    mdp = FiniteMDP(truth, rewards, start, DISCOUNT).ending_in([TERMINAL])
    model = mdp.with_transitions(learned).ending_in([TERMINAL])
    u = model_distances(mdp.transitions, model.transitions, TotalVariation())

    places = rng.permutation(np.stack(np.meshgrid(*[[-1.0, 0.0, 1.5]] * OBS), -1).reshape(-1, OBS))[:STATES]
    codes = Codes(torch.tensor(places).float(), torch.tensor([[-1.0, 0.5], [0.0, -1.0], [1.0, 1.0]]))
    following = np.array([rng.choice(STATES, p=mdp.transitions[s, a]) for s, a in zip(states, actions, strict=True)])
    raw = RawLog(
        source="a finite MDP",
        observations=codes.states[states].numpy(),
        actions=codes.actions[actions].numpy(),
        rewards=mdp.rewards[states, actions].astype(np.float32),
        terminals=following == TERMINAL,
        timeouts=following != TERMINAL,
        next_observations=codes.states[following].numpy(),
    )
    box = (-np.ones(ACTION), np.ones(ACTION))
    dataset = assemble(raw, name="finite", bounds=box, time_limit=None, clip_actions=False)

    # σ of one member, an elite or not, is u; the others' are smaller. Nobody may ask what a terminal state pays.
    shares = rng.uniform(0.1, 0.9, (MEMBERS, STATES, ACTIONS))
    np.put_along_axis(shares, rng.integers(MEMBERS, size=(1, STATES, ACTIONS)), 1.0, 0)
    ended = np.arange(STATES)[:, np.newaxis] == TERMINAL
    predicted, deviations = np.where(ended, 1.0, mdp.rewards), shares * np.where(ended, 1.0, u)
    ensemble = FiniteEnsemble(codes, *(torch.tensor(table) for table in (maps, predicted, deviations)))
    transition = TransitionModel(ensemble=cast(GaussianEnsemble, ensemble), elites=torch.tensor(ELITES))
    return Pipeline(mdp, model, u, rng.dirichlet(np.ones(ACTIONS), STATES), codes, transition, dataset)
