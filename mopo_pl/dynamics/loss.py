"""The ensemble's loss as a pure function of parameters and batch, for autograd, several devices and a compiler alike."""

from dataclasses import dataclass

from torch import Tensor
from torch.func import functional_call

from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.ensemble import GaussianEnsemble
from mopo_pl.dynamics.likelihood import beta_weights, bound_loss, gaussian_loss, model_target
from mopo_pl.parameters import Params


@dataclass(frozen=True, kw_only=True)
class EnsembleLoss:
    """Σ over members of the Gaussian loss on their own rows, plus the pull on the bounds of log σ²."""

    ensemble: GaussianEnsemble
    """The networks' form; the weights come in with each call."""
    bound_coef: float
    """Coefficient of the pull on the bounds."""
    beta: float
    """β of β-NLL, 0 for plain likelihood."""

    def __call__(self, parameters: Params, batch: Transitions) -> Tensor:
        """Of rows [E, B, W]."""
        mean, log_var = functional_call(self.ensemble, parameters, (batch.inputs,))
        target = self.ensemble.target_normaliser(model_target(batch))
        loss = gaussian_loss(mean, log_var, target, beta=self.beta).sum()
        weights = beta_weights(log_var, self.beta).mean(-2, keepdim=True) if self.beta > 0 else 1.0
        return loss + self.bound_coef * bound_loss(parameters["min_log_var"], parameters["max_log_var"], weights)
