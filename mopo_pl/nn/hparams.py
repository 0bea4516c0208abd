"""Constructor arguments of networks as plain values: saved in checkpoints, and used to rebuild the networks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

from mopo_pl.errors import InputError

Network = TypeVar("Network", bound=nn.Module)

CLASS = "class"
"""Key of the network's class, `module:Class`, in its hparams."""


def class_name(kind: type) -> str:
    """Return `module:Class`, the form in which the command line names classes."""
    return f"{kind.__module__}:{kind.__qualname__}"


def plain_arguments(network: nn.Module, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the arguments that the network stores as attributes of the same names, tuples as lists."""
    values = {name: getattr(network, name) for name in arguments if hasattr(network, name)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def network_hparams(network: nn.Module, arguments: Sequence[str]) -> dict[str, Any]:
    """Return the network's class and `plain_arguments`."""
    return {CLASS: class_name(type(network)), **plain_arguments(network, arguments)}


def built(
    argument: str, given: Network | Mapping[str, Any], kind: type[Network], make: Callable[..., Network]
) -> Network:
    """Return the given network, or build it with `make` if its hparams are given.

    Raises InputError if the hparams are of another class than `kind`: the weights would be loaded into a wrong network.
    """
    if isinstance(given, nn.Module):
        return given
    values = {**given}
    saved = values.pop(CLASS, None)
    if saved != class_name(kind):
        raise InputError(
            f"the saved {argument} is a {saved}, which is not built from a checkpoint: "
            f"give one like it, load_from_checkpoint(path, {argument}=...)"
        )
    return make(**values)
