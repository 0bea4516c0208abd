"""`PolicyGraph`: the computation of the exported ONNX and torch programs."""

from typing import Protocol

import torch
from torch import Tensor, nn

from mopo_pl.data.window import Window
from mopo_pl.policy import Policy


class PolicyGraph(nn.Module):
    """Module from o [B, D], or from (o, memory [B, M]) for a policy with a history, to the tensors named by `outputs`.

    `action` [B, A]: deterministic, within the bounds; NaN where o is not finite, or so large that the network overflows.
    `outside` [B, D]: whether a column lies beyond the log's range.
    `memory_out` [B, M]: the memory for the next step, unchanged where the action is NaN. A memory of zeros begins an episode.
    `mean`, `log_std` [B, A]: μ and log σ before tanh, if requested.
    """

    low: Tensor
    high: Tensor
    seen_low: Tensor
    seen_high: Tensor

    def __init__(self, policy: Policy, *, distribution: bool) -> None:
        """Build the graph of a policy; with `distribution` it also returns μ and log σ."""
        super().__init__()
        self.actor, self.distribution = policy.actor, distribution
        self.window = Window(policy.obs_dim, len(policy.action_low), policy.history)
        unknown = torch.full((policy.obs_dim,), torch.inf)
        seen = policy.observations
        for name, values in (
            ("low", policy.action_low),
            ("high", policy.action_high),
            ("seen_low", -unknown if seen.low is None else torch.as_tensor(seen.low)),
            ("seen_high", unknown if seen.high is None else torch.as_tensor(seen.high)),
        ):
            self.register_buffer(name, values.clone())

    @property
    def memory_width(self) -> int:
        """Return M, the width of the memory; 0 without a history.

        The memory consists of a flag whether the episode has begun, the last state, and the last action in [-1, 1].
        """
        return 0 if self.window.steps == 1 else 1 + self.window.width + self.window.action_dim

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the names of the inputs."""
        return ("observation",) if self.window.steps == 1 else ("observation", "memory")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the outputs of `forward`, in order."""
        memory = () if self.window.steps == 1 else ("memory_out",)
        return ("action", "outside", *memory, *(("mean", "log_std") if self.distribution else ()))

    def example(self) -> tuple[Tensor, ...]:
        """Return example inputs for tracing: a batch of two."""
        widths = (self.window.obs_dim,) if self.window.steps == 1 else (self.window.obs_dim, self.memory_width)
        return tuple(torch.zeros(2, width) for width in widths)

    def forward(self, observation: Tensor, memory: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the tensors that `outputs` names."""
        valid = observation.isfinite().all(-1, keepdim=True)
        # No NaN may reach the network, because some runtimes turn it into a number (relu as max(x, 0)).
        known = torch.where(valid, observation, self.actor.normaliser.mean[: self.window.obs_dim])
        states = known if memory is None else self._states(known, memory)
        squashed = self.actor.mean_action(states)
        action = self.low + (squashed + 1) / 2 * (self.high - self.low)
        action = torch.minimum(torch.maximum(action, self.low), self.high)
        # A finite observation can be so large that values in the network overflow; these must not enter the memory.
        valid = valid & squashed.isfinite().all(-1, keepdim=True)
        made = [
            torch.where(valid, action, torch.nan),
            (observation < self.seen_low) | (observation > self.seen_high),
        ]
        if memory is not None:
            begun = torch.ones_like(squashed[..., :1])
            made.append(torch.where(valid, torch.cat([begun, states, squashed], -1), memory))
        return (*made, *(self.actor.distribution(states) if self.distribution else ()))

    def _states(self, observations: Tensor, memory: Tensor) -> Tensor:
        begun, states, actions = memory.split([1, self.window.width, self.window.action_dim], -1)
        following = self.window.following(states, actions, observations)
        return torch.where(begun > 0, following, self.window.first(observations))


class Program(Protocol):
    """A compiled form of `PolicyGraph`."""

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in their order."""
        ...


class Steps:
    """Adapter that calls a program step by step and keeps its memory: a `Form` for the comparison."""

    def __init__(self, program: Program, graph: PolicyGraph) -> None:
        self.program, self.graph = program, graph
        self._memory: Tensor | None = None

    def reset(self) -> None:
        """Begin new episodes."""
        self._memory = None

    def __call__(self, observation, /):
        """Return actions [B, A] for observations [B, D]."""
        rows = torch.as_tensor(observation)
        if self.graph.window.steps == 1:
            return self.program(rows)[0].numpy()
        memory = torch.zeros(len(rows), self.graph.memory_width) if self._memory is None else self._memory
        action, _, self._memory, *_ = self.program(rows, memory)
        return action.numpy()
