"""`TransitionModel`: a trained ensemble with its elites, ready to imagine."""

import hashlib

import torch
from torch import Generator, Tensor

from mopo_pl.dynamics.ensemble import GaussianEnsemble


class TransitionModel:
    """T̂: each imagined step is drawn from one elite, chosen uniformly for each row and step."""

    def __init__(self, *, ensemble: GaussianEnsemble, elites: Tensor) -> None:
        """`elites`: indices of members [K], best first."""
        self.ensemble = ensemble.eval().requires_grad_(False)
        self.elites = elites

    def to(self, device: torch.device | str) -> "TransitionModel":
        """Moves weights and elites."""
        self.ensemble.to(device)
        self.elites = self.elites.to(device)
        return self

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(s, a) [B, D + A] to every member's mean and standard deviation of (r, Δs) [E, B, 1 + D]."""
        mean, log_var = self.ensemble.in_raw_units(inputs)
        return mean, torch.exp(0.5 * log_var)

    def draw(self, observations: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """What is random in the outcomes of states [B, D]: the elite that makes each [B], and ε ~ N(0, I) [B, 1 + D]."""
        (rows, dim), device = observations.shape, observations.device
        member = self.elites[torch.randint(len(self.elites), (rows,), generator=generator, device=device)]
        return member, torch.randn(rows, 1 + dim, generator=generator, device=device, dtype=observations.dtype)

    def sample(
        self, observations: Tensor, mean: Tensor, std: Tensor, member: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """s' [B, D] and r [B] = μ + σε of each row's own member, as `draw` gives it; both are sampled, as in the original code."""
        row = torch.arange(len(observations), device=observations.device)
        outcome = mean[member, row] + std[member, row] * noise
        return observations + outcome[:, 1:], outcome[:, 0]

    def hash(self) -> str:
        """SHA-256 of weights, normaliser and elites: names this model in what is built on it."""
        digest = hashlib.sha256(self.elites.cpu().numpy().tobytes())
        for name, tensor in sorted(self.ensemble.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()
