"""`Policy`: a trained policy, which maps observations to actions."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Generator, Tensor, nn

from mopo_pl.data.signals import Signals
from mopo_pl.data.window import Window
from mopo_pl.errors import ActionsNotFinite, InputError
from mopo_pl.policy.files import MakeActor, StoredPolicy, damage_told, folder_of, read_policy, write_policy
from mopo_pl.policy.guards import Guards, OnInvalid
from mopo_pl.policy.observations import observation_tensor
from mopo_pl.sac.actor import TanhGaussianActor

Array = TypeVar("Array", np.ndarray, Tensor)


class Policy(nn.Module):
    """A policy π, which maps observations to actions, both in the environment's units.

    It is a torch module, which `torch.compile`, `torch.export` and `torch.onnx` accept like any other module. They trace a call with a
    tensor.

    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> from mopo_pl import Policy
    >>> from mopo_pl.nn.layers import Normaliser
    >>> actor = TanhGaussianActor(
    ...     obs_dim=3,
    ...     action_dim=1,
    ...     hidden_sizes=[8],
    ...     log_std_min=-5.0,
    ...     log_std_max=2.0,
    ...     normaliser=Normaliser.identity(3),
    ...     generator=torch.Generator(),
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     Policy(actor, np.array([-2.0]), np.array([2.0]), {}).save(folder)
    ...     policy = Policy.load(folder)  # or the folder of a run, such as "runs/latest"
    >>> policy(torch.zeros(5, 3)).shape
    torch.Size([5, 1])
    """

    action_low: Tensor
    action_high: Tensor

    def __init__(
        self,
        actor: TanhGaussianActor,
        action_low: np.ndarray | Tensor,
        action_high: np.ndarray | Tensor,
        meta: Mapping[str, Any],
        *,
        history: int = 1,
    ) -> None:
        """Create a policy from a trained actor.

        Args:
            actor: Network that maps states to actions in [-1, 1].
            action_low: Action in the environment's units that -1 stands for [A].
            action_high: Action in the environment's units that +1 stands for [A].
            meta: Description that is stored in the JSON file.
            history: k > 1 for an actor whose states hold the last k observations and the actions between them. The policy then keeps
                them: call it once a step, and `reset` before each episode.

        """
        super().__init__()
        self.actor, self.meta, self.history = actor, dict(meta), history
        actions = len(action_low)
        self.obs_dim = (actor.obs_dim + actions) // history - actions
        """D, the number of columns of an observation."""
        self._window = Window(self.obs_dim, actions, history)
        self._last: tuple[Tensor, Tensor] | None = None
        """State and action in [-1, 1] of the last step, if states hold several observations."""
        self.register_buffer("action_low", torch.as_tensor(action_low, dtype=torch.float32))
        self.register_buffer("action_high", torch.as_tensor(action_high, dtype=torch.float32))
        signals = self.meta.get("signals", {})
        self.observations = _signals(signals.get("observations"), self.obs_dim, "{}")
        """Columns of an observation: names, units, and ranges in the log."""
        self.actions = _signals(signals.get("actions"), actions, "action {}")
        """Columns of an action: names, units, and ranges in the log."""
        self.guards = Guards(self.observations, self.actions, self.action_low, self.action_high)

    def forward(self, observation: Array) -> Array:
        """Return the deterministic action low + (tanh μ(s) + 1)/2 · (high - low).

        An array or a tensor [D] or [B, D] gives an action [A] or [B, A] of the same kind. A dict that holds a number or [B] numbers for
        each column by name gives an array.

        Raises ValueError for a wrong type, another D, other columns, or a value that is not finite. Raises ActionsNotFinite, which
        is a ValueError, if numbers inside the network overflow. `guard` can replace the last two errors by a fallback action.
        """
        return self._act(observation, self.actor.mean_action)

    def __call__(self, observation: Array) -> Array:
        """Return the deterministic action, as `forward` does."""
        return super().__call__(observation)

    def sample(self, observation: Array, generator: Generator) -> Array:
        """Draw an action from π(a|s), with the types and errors of `forward`.

        Raises ValueError for a policy of behaviour cloning, because its σ was not trained.
        """
        if self.meta.get("cloned"):
            raise ValueError(
                "behaviour cloning trains the mean action alone: call the policy instead of sampling from it"
            )
        return self._act(observation, lambda s: self.actor.sample(s, generator))

    def with_noise(self, observation: Array, noise: Tensor) -> Array:
        """Return the action low + (tanh(μ(s) + σ(s)ε) + 1)/2 · (high - low) for given noise ε [A] or [B, A]."""
        return self._act(observation, lambda s: self.actor.act(s, noise.to(s)))

    def reset(self) -> None:
        """Forget the last observations and actions. The next call is the first step of an episode, or of a batch of episodes."""
        self._last = self.guards.last = None

    def guard(
        self,
        *,
        on_invalid: OnInvalid = "error",
        safe_action: Sequence[float] | None = None,
        rate_limits: Mapping[str, float] | None = None,
    ) -> "Policy":
        """Set the reaction to invalid observations, and rate limits of the actions; return the policy itself.

        Args:
            on_invalid: Reaction to an observation that holds NaN or inf, or at which the network overflows: `error` (ValueError), `last` (the
                last action, or `safe_action` if there is none yet), or `safe_action`.
            safe_action: Action [A] within the bounds, in the environment's units.
            rate_limits: Largest change of an action column in one step, in the column's unit, by its name or a pattern of names (`action 0`, … if
                the log has no names). Fallback actions are limited too. The first step is not limited.

        With fallback `last` or a rate limit the policy remembers its last action: call it once a step, and `reset` before
        each episode. Raises ValueError for values that do not fit the policy.

        """
        self.guards.configure(on_invalid, safe_action, rate_limits or {})
        return self

    @property
    def outside(self) -> dict[str, int]:
        """Number of observations so far outside the log's range, by column; 0 if the policy's file does not hold the range."""
        return dict(zip(self.observations.names, self.guards.counts.tolist(), strict=True))

    @property
    def outside_now(self) -> tuple[str, ...]:
        """Names of the columns that were outside the log's range in the last call."""
        return self.guards.outside_now

    @property
    def invalid(self) -> int:
        """Number of observations so far that were not finite, or at which the network overflowed."""
        return self.guards.invalid

    @torch.no_grad()
    def _act(self, observation: Any, squashed: Callable[[Tensor], Tensor]) -> Any:
        observations = self._tensor(observation)
        self._refuse_another_batch(observations)  # before an invalid row is replaced by a row of another batch
        valid = self.guards.valid(observations)
        states = self._with_history(observations if valid is None else self._held(observations))
        low, high = self.action_low.to(states), self.action_high.to(states)
        chosen, before = squashed(states), self.guards.last
        lost = self.guards.overflowed(chosen, valid)
        if lost is not None:  # treated as observations that are not finite
            valid = ~lost if valid is None else valid & ~lost
            states = self._with_history(self._held(observations.where(valid.unsqueeze(-1), torch.nan)))
            chosen = squashed(states)
        # Clamped, because rounding could lead outside the action space.
        scaled = (low + (chosen + 1) / 2 * (high - low)).clamp(low, high)
        refuses = lost is not None and self.guards.on_invalid == "error"
        action = self.guards.acted(scaled, None if refuses else valid)
        if self.history > 1:
            taken = chosen if action is scaled else (2 * (action - low) / (high - low) - 1).clamp(-1, 1)
            self._last = states, taken
        if lost is not None and refuses:
            self.guards.last = before
            action = action.where(~lost.unsqueeze(-1), torch.nan)
            raise ActionsNotFinite(action if isinstance(observation, Tensor) else action.cpu().numpy())
        return action if isinstance(observation, Tensor) else action.cpu().numpy()

    def _with_history(self, observations: Tensor) -> Tensor:
        """Return the actor's states from observations [..., D] and the last step."""
        if self.history == 1:
            return observations
        if self._last is None:
            return self._window.first(observations)
        states, actions = self._last
        return self._window.following(states.to(observations), actions.to(observations), observations)

    def _refuse_another_batch(self, observations: Tensor) -> None:
        """Raise ValueError if the last step is kept and had a batch of another shape."""
        if self._last is not None and self._last[0].shape[:-1] != observations.shape[:-1]:
            raise ValueError(
                f"the last step was of observations {[*self._last[0].shape[:-1], self.obs_dim]}, this one is of "
                f"{list(observations.shape)}: call policy.reset() before another episode"
            )

    def _held(self, observations: Tensor) -> Tensor:
        """Return observations [..., D], with those that are not finite replaced by the last ones, or by the normaliser's mean if none is kept."""
        known = self.actor.normaliser.mean if self._last is None else self._last[0]
        return torch.where(
            observations.isfinite().all(-1, keepdim=True), observations, known[..., : self.obs_dim].to(observations)
        )

    def _tensor(self, observation: Any) -> Tensor:
        """Return an observation as a tensor [..., D] with the device and precision of the actor."""
        parameter = next(self.actor.parameters())
        return observation_tensor(observation, self.observations.names).to(
            device=parameter.device, dtype=parameter.dtype
        )

    def save(self, folder: Path | str) -> None:
        """Write `policy.safetensors` and `policy.json` into a folder, each to a temporary file that is then renamed."""
        low, high = (bound.detach().float().cpu().numpy() for bound in (self.action_low, self.action_high))
        write_policy(Path(folder).expanduser(), StoredPolicy(self.actor, low, high, self.meta, self.history))

    @classmethod
    def load(cls, folder: Path | str, actor: MakeActor | None = None) -> "Policy":
        """Load a policy from a run folder, its `policy` folder, one of the two files in it, or `hub:OWNER/NAME` (extra `hub`).

        `actor`: the class of a user's actor (`sac.actor`). It must be given for such a policy, because a file never decides which code is
        imported. Raises InputError if it is not given, or if a file is missing, damaged, or written by a newer version.
        """
        folder = folder_of(folder)
        with damage_told(folder):
            stored = read_policy(folder, actor)
            return cls(*stored[:-1], history=stored.history).eval().requires_grad_(False)


def refuse_another_shape(policy: Policy, obs_dim: int, action_dim: int, run: Path) -> None:
    """Raise InputError if the policy in a run's folder does not have the dimensions of the run's log, because it was replaced.

    `obs_dim`, `action_dim`: number of columns of a state and of an action of the log.
    """
    of_policy = policy.actor.obs_dim, policy.actor.action_dim
    if of_policy != (obs_dim, action_dim):
        raise InputError(
            f"{run / 'policy'} is of {of_policy[0]} observation and {of_policy[1]} action dimensions, the log of the run has "
            f"{obs_dim} and {action_dim}: put the policy of that run back"
        )


def _signals(plain: Any, columns: int, numbered: str) -> Signals:
    """Return the columns as the policy's file describes them. If it does not, they have numbered names and no known range."""
    return Signals.numbered(columns, numbered) if plain is None else Signals.from_plain(plain, columns)
