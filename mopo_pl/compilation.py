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


def compile_errors() -> type[Exception]:
    """What compiled code raises, at its first call and before it computes anything, where it cannot be built."""
    from torch._dynamo.exc import TorchDynamoException  # seconds to import

    return TorchDynamoException


def compiled_for_itself(method: Any, device: torch.device) -> Callable[..., Any]:
    """A bound method, compiled for its own object, and for the shapes of its first call alone.

    torch.compile would check some hundred facts at each call, up to a tenth of an update's time on a CPU. For an update
    none of them changes: tensors, shapes and constants stay what they are while the object lives. But compiled code is
    found by its code object, so that each object needs one of its own, or it would be given another's.
    """
    function = method.__func__
    code = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    options: dict[str, Any] = {"guard_filter_fn": torch.compiler.skip_all_guards_unsafe}
    if device.type == "cpu":
        options["cpp_wrapper"] = True  # kernels are called from C++, not from Python
    return torch.compile(MethodType(code, method.__self__), fullgraph=True, dynamic=False, options=options)
