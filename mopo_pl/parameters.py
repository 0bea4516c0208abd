"""A module's weights as a map from name to tensor: what pure functions of them take and give back as gradients."""

from torch import Tensor, nn

Params = dict[str, Tensor]


def parameters_of(module: nn.Module) -> Params:
    """A module's own parameters, seen without autograd; what changes them in place changes the module."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}
