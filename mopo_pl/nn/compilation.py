"""What is compiled, and how."""

import ctypes
import platform
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import torch

from mopo_pl.distributed.console import print_once


class CompiledOrEager:
    """A function by its compiled form; as it is, from the first failure to build that on, which is said once.

    What cannot be built fails before it computes anything.
    """

    def __init__(self, eager: Callable[..., Any], compiled: Callable[..., Any], name: str) -> None:
        """`name`: of the function, for the user."""
        self.eager, self.name = eager, name
        self._compiled: Callable[..., Any] | None = compiled

    def __call__(self, *arguments: Any) -> Any:
        """As the function."""
        if self._compiled is not None:
            from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException  # seconds to import

            try:
                return self._compiled(*arguments)
            except TorchDynamoException as error:
                reason = str(error).splitlines()[0]
            except FailOnRecompileLimitHit:
                reason = "what it computes has changed too often"
            self._compiled = None
            print_once(f"{self.name} is not compiled: {reason}")
        return self.eager(*arguments)


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


def compile_without_guards(method: Any, device: torch.device, name: str) -> CompiledOrEager:
    """A bound method, compiled for its own object, and for the shapes of its first call alone; `name` as `CompiledOrEager` has it.

    torch.compile would check some hundred facts at each call, up to a tenth of an update's time on a CPU. For an update
    none of them changes: tensors, shapes and constants stay what they are while the object lives.
    """
    own = MethodType(_with_own_code(method.__func__), method.__self__)
    return _built(method, own, device, name, guard_filter_fn=torch.compiler.skip_all_guards_unsafe)


def compile_with_guards(function: Any, device: torch.device, name: str) -> CompiledOrEager:
    """A function, compiled for the shapes of its first call, and checked at each call to be given what it was built for."""
    return _built(function, _with_own_code(function), device, name)


def _built(eager: Any, own: Any, device: torch.device, name: str, **options: Any) -> CompiledOrEager:
    if device.type == "cpu":
        keep_freed_memory()
    options |= options_for(device)
    return CompiledOrEager(eager, torch.compile(own, fullgraph=True, dynamic=False, options=options), name)


def _with_own_code(function: Any) -> FunctionType:
    """A copy of a function with a code object of its own.

    torch.compile keeps what it has compiled with the code object. Two objects that shared one would run each other's code where
    nothing is checked, and count together towards the eight forms that it compiles of one code object at most.
    """
    copy = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD in glibc's malloc.h
LARGEST_ON_HEAP = 32 * 2**20
"""Bytes; glibc takes no more."""
LARGEST_KEPT = 256 * 2**20
"""Bytes free at the heap's end. Several blocks' worth: a small one that lives in between sends the next large one further up."""


def keep_freed_memory() -> bool:
    """Keeps blocks of up to 32 MiB, and up to 256 MiB freed at the heap's end, for this process; False where libc is not glibc.

    A compiled update takes and frees some megabytes at each call. glibc would return them, and the next call would wait for
    the system to clear a thousand pages again.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(MMAP_THRESHOLD, LARGEST_ON_HEAP) and libc.mallopt(TRIM_THRESHOLD, LARGEST_KEPT))
