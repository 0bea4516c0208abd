"""Networks as plain values: what a checkpoint keeps of a constructor's arguments, and what it is rebuilt from."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from torch import nn

from mopo_pl.errors import InputError

Network = TypeVar("Network", bound=nn.Module)

CLASS = "class"
"""Key of the network's class, `module:Class`, beside its arguments."""


def class_name(kind: type) -> str:
    """`module:Class`, as a user's own parts are named on the command line."""
    return f"{kind.__module__}:{kind.__qualname__}"


def plain_arguments(network: nn.Module, arguments: Sequence[str]) -> dict[str, Any]:
    """Those arguments that the network holds as attributes of their names; tuples as lists."""
    values = {name: getattr(network, name) for name in arguments if hasattr(network, name)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def network_hparams(network: nn.Module, arguments: Sequence[str]) -> dict[str, Any]:
    """A network's class and `plain_arguments`."""
    return {CLASS: class_name(type(network)), **plain_arguments(network, arguments)}


def built(
    argument: str, given: Network | Mapping[str, Any], kind: type[Network], make: Callable[..., Network]
) -> Network:
    """The network that is given, or the one that `make` builds from the arguments of its hparams.

    Raises InputError where they are those of another class than `kind`: its weights would enter a wrong network.
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
