"""The trained policy; needs only torch, NumPy and safetensors."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Generator, Tensor, nn

from mopo_pl.data.signals import Signals
from mopo_pl.data.window import Window
from mopo_pl.errors import ActionsNotFinite, InputError
from mopo_pl.guards import Guards, OnInvalid
from mopo_pl.nn.hparams import CLASS, class_name, plain_arguments
from mopo_pl.nn.layers import Normaliser
from mopo_pl.nn.random_streams import generator_for
from mopo_pl.nn.stored_weights import read_weights, refuse_larger
from mopo_pl.sac.actor import ACTOR_ARGUMENTS, TanhGaussianActor
from mopo_pl.storage.atomic_write import atomic_write, sha256_of
from mopo_pl.storage.hub import downloaded, is_hub
from mopo_pl.storage.stored_json import read_json

Array = TypeVar("Array", np.ndarray, Tensor)
FORMAT = 3
"""Of a policy with a window of observations; 2 with an actor of the user's own; else 1, which older versions read."""


class Policy(nn.Module):
    """π: observations in the environment's units to actions in the environment's units.

    A module of torch, which `torch.compile`, `torch.export` and `torch.onnx` take as any other; they see the call of a
    tensor.

    >>> import torch
    >>> from tempfile import TemporaryDirectory
    >>> from mopo_pl import Policy
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
        """`action_low`, `action_high` [A]: what -1 and +1 stand for; `meta`: kept in the JSON file.

        `history`: k > 1 for an actor whose states hold the last k observations and the actions between them. The policy
        then keeps them: call it once a step, and `reset` before each episode.
        """
        super().__init__()
        self.actor, self.meta, self.history = actor, dict(meta), history
        actions = len(action_low)
        self.obs_dim = (actor.obs_dim + actions) // history - actions
        """D: columns of an observation."""
        self._window = Window(self.obs_dim, actions, history)
        self._last: tuple[Tensor, Tensor] | None = None
        """State and action in [-1, 1] of the last step, where states hold several observations."""
        self.register_buffer("action_low", torch.as_tensor(action_low, dtype=torch.float32))
        self.register_buffer("action_high", torch.as_tensor(action_high, dtype=torch.float32))
        signals = self.meta.get("signals", {})
        self.observations = _signals(signals.get("observations"), self.obs_dim, "{}")
        """The columns of an observation: names, units, ranges in the log."""
        self.actions = _signals(signals.get("actions"), actions, "action {}")
        """The columns of an action."""
        self.guards = Guards(self.observations, self.actions, self.action_low, self.action_high)

    def forward(self, observation: Array) -> Array:
        """The deterministic action low + (tanh μ(s) + 1)/2 · (high - low).

        Takes [D] or [B, D], an array or a tensor, and gives [A] or [B, A] of the same kind; or a dict of a number or of [B]
        for each column by name, and gives an array. Raises ValueError for what is no observation: another type, another D,
        other columns, a value that is not finite, and ActionsNotFinite, a ValueError too, for a value at which the network's
        own numbers overflow (`guard` sets what is done about these two instead).
        """
        return self._act(observation, self.actor.mean_action)

    def __call__(self, observation: Array) -> Array:
        """As `forward`."""
        return super().__call__(observation)

    def sample(self, observation: Array, generator: Generator) -> Array:
        """As calling, but the action is drawn from π(a|s). Raises ValueError for a cloned policy: its σ was not trained."""
        if self.meta.get("cloned"):
            raise ValueError(
                "behaviour cloning trains the mean action alone: call the policy instead of sampling from it"
            )
        return self._act(observation, lambda s: self.actor.sample(s, generator))

    def with_noise(self, observation: Array, noise: Tensor) -> Array:
        """As `sample`, with ε [A] or [B, A] given: low + (tanh(μ(s) + σ(s)ε) + 1)/2 · (high - low)."""
        return self._act(observation, lambda s: self.actor.act(s, noise.to(s)))

    def reset(self) -> None:
        """Forget the last observations and actions: the next call is the first step of an episode, or of several."""
        self._last = self.guards.last = None

    def guard(
        self,
        *,
        on_invalid: OnInvalid = "error",
        safe_action: Sequence[float] | None = None,
        rate_limits: Mapping[str, float] | None = None,
    ) -> "Policy":
        """Set what is done about wrong observations and fast actions; gives the policy itself.

        Args:
            on_invalid: What an observation with NaN or inf, or at which the network overflows, leads to: `error` (ValueError), `last` (the last action, or
                `safe_action` where there is none yet), or `safe_action`.
            safe_action: [A], within the bounds, in the environment's units.
            rate_limits: Largest change of an action column in one step, in its unit, by name or pattern of names
                (`action 0`, … where the log has no names). Fallbacks keep to it too. The first step is free.

        With fallback `last` or a rate limit the policy remembers its last action: call it once a step, and `reset` before
        each episode. Raises ValueError for values that do not fit the policy.

        """
        self.guards.configure(on_invalid, safe_action, rate_limits or {})
        return self

    @property
    def outside(self) -> dict[str, int]:
        """How many observations so far lay beyond the log's range, by column; 0 where the file does not know the range."""
        return dict(zip(self.observations.names, self.guards.counts.tolist(), strict=True))

    @property
    def outside_now(self) -> tuple[str, ...]:
        """The columns of the last call that lay beyond the log's range."""
        return self.guards.outside_now

    @property
    def invalid(self) -> int:
        """How many observations so far were not finite, or made the network overflow."""
        return self.guards.invalid

    @torch.no_grad()
    def _act(self, observation: Any, squashed: Callable[[Tensor], Tensor]) -> Any:
        observations = self._tensor(observation)
        self._refuse_another_batch(observations)  # before a row that is not valid is given that of another batch
        valid = self.guards.valid(observations)
        states = self._with_history(observations if valid is None else self._held(observations))
        low, high = self.action_low.to(states), self.action_high.to(states)
        chosen, before = squashed(states), self.guards.last
        lost = self.guards.overflowed(chosen, valid)
        if lost is not None:  # as if the observation had not been finite
            valid = ~lost if valid is None else valid & ~lost
            states = self._with_history(self._held(observations.where(valid.unsqueeze(-1), torch.nan)))
            chosen = squashed(states)
        # Clamped: rounding must not leave the action space.
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
        """The actor's states, from observations [..., D] and the last step."""
        if self.history == 1:
            return observations
        if self._last is None:
            return self._window.first(observations)
        states, actions = self._last
        return self._window.following(states.to(observations), actions.to(observations), observations)

    def _refuse_another_batch(self, observations: Tensor) -> None:
        """Raise ValueError where the last step, if it is kept, was of another number of observations."""
        if self._last is not None and self._last[0].shape[:-1] != observations.shape[:-1]:
            raise ValueError(
                f"the last step was of observations {[*self._last[0].shape[:-1], self.obs_dim]}, this one is of "
                f"{list(observations.shape)}: call policy.reset() before another episode"
            )

    def _held(self, observations: Tensor) -> Tensor:
        """Observations with the last ones in place of those that are not finite; at first, with the normaliser's mean."""
        known = self.actor.normaliser.mean if self._last is None else self._last[0]
        return torch.where(
            observations.isfinite().all(-1, keepdim=True), observations, known[..., : self.obs_dim].to(observations)
        )

    def _tensor(self, observation: Any) -> Tensor:
        """An observation as a tensor of the actor's device and precision [..., D]."""
        values = _real_tensor(self._row(observation) if isinstance(observation, Mapping) else observation)
        if values is None or values.dim() == 0:
            raise ValueError(
                f"an observation is a vector of {self.obs_dim} real numbers, or a batch of such; "
                f"this is {_described(observation)}"
            )
        if values.shape[-1] != self.obs_dim:
            raise ValueError(f"observation has shape {tuple(values.shape)}; the last must be {self.obs_dim}")
        parameter = next(self.actor.parameters())
        return values.to(device=parameter.device, dtype=parameter.dtype)

    def _row(self, columns: Mapping[str, Any]) -> Any:
        """The columns of an observation that is given by name, in the policy's order [..., D]."""
        names = self.observations.names
        if columns.keys() != set(names):
            missing = [name for name in names if name not in columns]
            unknown = [
                str(name)[:40] for name in columns if name not in names
            ]  # a stranger chose how many, and how long
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            wrong = (
                f"lacks {', '.join(missing)}" if missing else f"has {', '.join(unknown[:5])}{more}, which is no column"
            )
            raise ValueError(f"an observation given as a dict holds each column by its name; this one {wrong}")
        try:
            return np.stack([_array(columns[name]) for name in names], -1)
        except (ValueError, IndexError) as error:  # IndexError: more dimensions than an array has
            raise ValueError("an observation given as a dict holds one number, or as many, for each column") from error

    def save(self, folder: Path | str) -> None:
        """Writes `policy.safetensors` and `policy.json`, each aside first and then renamed."""
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        actor = self.actor
        own = {} if type(actor) is TanhGaussianActor else {CLASS: class_name(type(actor))}
        description = {
            "format": 3 if self.history > 1 else 2 if own else 1,
            **({"history": self.history} if self.history > 1 else {}),
            "actor": {**plain_arguments(actor, ACTOR_ARGUMENTS), **own},
            "action_low": self.action_low.tolist(),
            "action_high": self.action_high.tolist(),
            "normaliser": {"mean": actor.normaliser.mean.tolist(), "std": actor.normaliser.divisor.tolist()},
            **self.meta,
        }
        weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in actor.state_dict().items()})
        description["sha256"] = hashlib.sha256(weights).hexdigest()
        with atomic_write(folder / "policy.safetensors") as aside:
            aside.write_bytes(weights)
        with atomic_write(folder / "policy.json") as aside:
            aside.write_text(json.dumps(description, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path | str, actor: Callable[..., TanhGaussianActor] | None = None) -> "Policy":
        """Reads a run folder, its `policy` folder, one of the two files in it, or `hub:OWNER/NAME` (extra `hub`).

        `actor`: the class of an actor of the user's own (`sac.actor`). A file never decides which code is imported, so it
        must be given. Raises InputError where it is missing, or a file is missing, damaged or too new.
        """
        folder = folder_of(folder)
        try:
            return cls._read(folder, actor)
        except FileNotFoundError as error:
            raise InputError(f"{folder} holds no policy: policy.json and policy.safetensors must be there") from error
        except InputError:
            raise
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise InputError(f"{folder} holds a damaged policy ({error}); copy it again, or resume its run") from error

    @classmethod
    def _read(cls, folder: Path, make: Callable[..., TanhGaussianActor] | None) -> "Policy":
        description = read_json(folder / "policy.json")
        weights = read_weights(folder / "policy.safetensors")
        if description.pop("format") > FORMAT:
            raise InputError(f"{folder} was written by a newer version of mopo_pl: upgrade to read it")
        # Files of earlier versions have none.
        if description.pop("sha256", None) not in (None, sha256_of(folder / "policy.safetensors")):
            raise ValueError("policy.safetensors has another SHA-256 than policy.json names")
        shape, history = description.pop("actor"), description.pop("history", 1)
        saved = shape.pop(CLASS, None)
        if saved is not None and make is None:
            name = saved.rpartition(":")[2]
            raise InputError(
                f"the actor of {folder} is a {saved}: give its class, Policy.load({str(folder)!r}, actor={name}), or "
                f"--actor {saved} to evaluate"
            )
        description.pop("normaliser")
        with np.errstate(over="ignore"):  # inf is refused
            low, high = (np.array(description.pop(key), np.float32) for key in ("action_low", "action_high"))
        if low.shape != (shape["action_dim"],) or high.shape != low.shape or not np.isfinite([low, high]).all():
            raise ValueError("the bounds of its actions are not finite, or not one for each")
        if not (low < high).all():
            raise ValueError("a lower bound of its actions is not below the higher one")
        _refuse_values(shape, history, description)
        kind = TanhGaussianActor if saved is None or make is None else make
        hidden = shape["hidden_sizes"] if kind is TanhGaussianActor else []
        refuse_larger(shape, [shape["obs_dim"], *hidden, 2 * shape["action_dim"] if hidden else 1], weights)
        identity = Normaliser.identity(shape["obs_dim"])
        actor = kind(**shape, normaliser=identity, generator=generator_for(0, "overwritten"))
        actor.load_state_dict(weights)
        return cls(actor, low, high, description, history=history).eval().requires_grad_(False)


def folder_of(place: Path | str) -> Path:
    """The folder that holds the two files of a policy: of whatever `Policy.load` takes."""
    if is_hub(place):
        return downloaded(str(place))
    try:
        folder = Path(place).expanduser()
        folder = folder.parent if folder.name in ("policy.json", "policy.safetensors") else folder
        return folder / "policy" if (folder / "policy").is_dir() else folder
    except (RuntimeError, OSError) as error:  # no such user after ~; a name that is too long
        why = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise InputError(f"{place} is no folder ({why}): give that of a run, or of its policy") from error


def refuse_another_shape(policy: Policy, obs_dim: int, action_dim: int, run: Path) -> None:
    """Raise InputError where the policy in a run's folder is not one of its log: somebody has put another one there.

    `obs_dim`, `action_dim`: columns of a state and of an action of the log, as the run was trained on it.
    """
    of_policy = policy.actor.obs_dim, policy.actor.action_dim
    if of_policy != (obs_dim, action_dim):
        raise InputError(
            f"{run / 'policy'} is of {of_policy[0]} observation and {of_policy[1]} action dimensions, the log of the run has "
            f"{obs_dim} and {action_dim}: put the policy of that run back"
        )


def _signals(plain: Any, columns: int, numbered: str) -> Signals:
    """The columns as the policy's file describes them; numbered, and of no known range, where it does not."""
    return Signals.numbered(columns, numbered) if plain is None else Signals.from_plain(plain, columns)


def _refuse_values(shape: Mapping[str, Any], history: Any, meta: Mapping[str, Any]) -> None:
    """Raise ValueError where the description of a policy holds what no policy has."""
    widths = shape["obs_dim"], shape["action_dim"], history
    if not all(type(width) is int and width >= 1 for width in widths):
        raise ValueError("obs_dim, action_dim and history must be whole numbers from 1 on")
    if (shape["obs_dim"] + shape["action_dim"]) % history:
        raise ValueError(f"obs_dim={shape['obs_dim']} is no window of {history} observations")
    if not isinstance(meta.get("env_id"), str | None) or not isinstance(meta.get("env_kwargs", {}), dict):
        raise ValueError("env_id must be a text or null, and env_kwargs an object")
    if not isinstance(meta.get("dataset", {}), dict):
        raise ValueError("dataset must be an object")
    if not -math.inf < shape["log_std_min"] < shape["log_std_max"] < math.inf:
        raise ValueError("log_std_min and log_std_max must be finite and ascending")


def _real_tensor(observation: Any) -> Tensor | None:
    """The observation as a tensor, a copy where it is an array; None where it does not consist of real numbers."""
    if isinstance(observation, Tensor):
        return None if observation.is_complex() else observation
    try:
        array = _array(observation)
    except ValueError:  # rows of different lengths
        return None
    return torch.from_numpy(np.array(array, np.float64, order="C")) if array.dtype.kind in "biuf" else None


def _array(values: Any) -> np.ndarray:
    """As an array; a masked value was not measured, and is not finite."""
    if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "biuf":
        return np.ma.filled(values.astype(np.float64), np.nan)
    return np.asarray(values)


def _described(observation: Any) -> str:
    if isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict):
        return "a pair: write observation, info = env.reset()"
    if observation is None or isinstance(observation, str | bytes):
        return f"a {type(observation).__name__}"
    values = None if isinstance(observation, Mapping) else _real_tensor(observation)
    return "a number" if values is not None else f"a {type(observation).__name__} of what are no real numbers"
