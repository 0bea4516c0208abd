"""Whether updates are compiled, and how."""

import importlib.util
import os
import shutil
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import torch

from mopo_pl.problems import InputError

WORTHWHILE = 5000
"""Updates below which compiling costs more than it saves (some 20 s against 5 ms an update, on two CPU cores)."""
WORTHWHILE_STEPS = 20_000
"""Steps of the ensemble below which compiling it, up to a minute, is taken to cost more than it saves."""
WORTHWHILE_TRANSITIONS = 5_000_000
"""Imagined transitions below which compiling their step costs more than it saves (some 15 s against 3 µs each)."""


def resolve_compile(choice: str, updates: int) -> bool:
    """What `compile=auto|true|false` comes to on this machine, for a run of so many updates.

    Raises InputError where `true` is asked for and torch.compile has nothing to build with.
    """
    if choice == "false" or (choice == "auto" and updates < WORTHWHILE):
        return False
    missing = _missing()
    if missing and choice == "true":
        raise InputError(f"compile=true needs {missing}, and there is none; install it or set compile=false")
    return missing is None


def _missing() -> str | None:
    """What torch.compile would need here and does not find."""
    if torch.cuda.is_available():
        return None if importlib.util.find_spec("triton") else "triton"
    compilers = filter(None, (os.environ.get("CXX"), "g++", "clang++"))
    return None if any(map(shutil.which, compilers)) else "a C++ compiler (g++, clang++ or $CXX)"


def compile_errors() -> tuple[type[Exception], ...]:
    """What compiled code raises, before it computes anything, where it cannot be built, or not once more."""
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException  # seconds to import

    return TorchDynamoException, FailOnRecompileLimitHit


def options_for(device: torch.device) -> dict[str, Any]:
    """torch.compile's options for networks this small: on a CPU what surrounds the products is most of what can be saved."""
    if device.type != "cpu":
        return {}
    return {
        "cpp_wrapper": True,  # kernels are called from C++, not from Python
        "memory_planning": True,  # one allocation for what lives within a call, not a hundred
        "cpp.min_chunk_size": 16,  # even 256 rows of exp and log are shared among the threads
        "unroll_reductions_threshold": 1,  # a sum over six actions, written out, would be computed number by number
    }


def compiled_for_itself(method: Any, device: torch.device) -> Callable[..., Any]:
    """A bound method, compiled for its own object, and for the shapes of its first call alone.

    torch.compile would check some hundred facts at each call, up to a tenth of an update's time on a CPU. For an update
    none of them changes: tensors, shapes and constants stay what they are while the object lives.
    """
    options = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe, **options_for(device)}
    own = MethodType(with_own_code(method.__func__), method.__self__)
    return torch.compile(own, fullgraph=True, dynamic=False, options=options)


def with_own_code(function: Any) -> FunctionType:
    """A copy of a function: torch.compile finds what it has compiled by the code object, or takes another's and counts them."""
    return FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
