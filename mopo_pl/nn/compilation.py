"""torch.compile for networks this small: its options, guards, eager fallback, and the memory of compiled code."""

import ctypes
import platform
from collections.abc import Callable, Sequence
from types import FunctionType, MethodType
from typing import Any

import torch

from mopo_pl.distributed.console import print_once


class CompiledOrEager:
    """A compiled function that falls back to the eager one, permanently and with one message, if it cannot be compiled.

    Compilation fails before anything is computed, so that the eager call starts from unchanged arguments.
    """

    def __init__(self, eager: Callable[..., Any], compiled: Callable[..., Any], name: str) -> None:
        """Store both forms of one function. `name` is its name in the message, such as "the SAC update"."""
        self.eager, self.name = eager, name
        self._compiled: Callable[..., Any] | None = compiled

    def __call__(self, *arguments: Any) -> Any:
        """Return `eager(*arguments)`, computed by the compiled form where possible."""
        if self._compiled is not None:
            from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException  # seconds to import

            try:
                return self._compiled(*arguments)
            except TorchDynamoException as error:
                reason = str(error).splitlines()[0]
            except FailOnRecompileLimitHit:
                reason = "it was recompiled too often"
            self._compiled = None
            print_once(f"{self.name} is not compiled: {reason}")
        return self.eager(*arguments)


def options_for(device: torch.device) -> dict[str, Any]:
    """Return the options of torch.compile.

    On a CPU, the overhead around the matrix products is most of what can be saved.
    """
    if device.type != "cpu":
        return {}
    return {
        "cpp_wrapper": True,  # call kernels from C++, not from Python
        "memory_planning": True,  # one allocation for all temporaries of a call instead of a hundred
        "cpp.min_chunk_size": 16,  # use several threads even for exp and log of 256 rows
        "unroll_reductions_threshold": 1,  # an unrolled sum over six actions would not be vectorised
    }


def compile_without_guards(method: Any, device: torch.device, name: str) -> CompiledOrEager:
    """Compile a bound method for its object and for the shapes of its first call, without guards.

    torch.compile checks about a hundred guards at each call, up to a tenth of an update's time on a CPU. For an update
    none of them can fail: tensors, shapes and constants do not change while the object exists. `name`: see
    `CompiledOrEager`.
    """
    copy = MethodType(_with_new_code_object(method.__func__), method.__self__)
    return _built(method, copy, device, name, guard_filter_fn=_keep_no_guard)


def _keep_no_guard(guards: Sequence[Any]) -> list[bool]:
    """Return false for each guard, so that none is kept, as `torch.compiler.skip_all_guards_unsafe` does; torch 2.8 lacks it."""
    return [False] * len(guards)


def compile_with_guards(function: Any, device: torch.device, name: str) -> CompiledOrEager:
    """Compile a function for the shapes of its first call; guards check each call's arguments.

    `name`: see `CompiledOrEager`.
    """
    return _built(function, _with_new_code_object(function), device, name)


def _built(eager: Any, copy: Any, device: torch.device, name: str, **options: Any) -> CompiledOrEager:
    if device.type == "cpu":
        keep_freed_memory()
    options |= options_for(device)
    return CompiledOrEager(eager, torch.compile(copy, fullgraph=True, dynamic=False, options=options), name)


def _with_new_code_object(function: Any) -> FunctionType:
    """Copy a function, including its code object.

    torch.compile caches compiled code by code object. Without guards, two objects that shared one would run each
    other's compiled code; with guards, they would share the limit of eight compilations per code object.
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
"""Largest value glibc accepts for M_MMAP_THRESHOLD [bytes]."""
LARGEST_KEPT = 256 * 2**20
"""Free memory kept at the end of the heap [bytes].

It is several times the size of one block, because a small block still in use in between moves the next large block further up.
"""


def keep_freed_memory() -> bool:
    """Make glibc keep freed blocks of up to 32 MiB, and up to 256 MiB at the end of the heap, in this process.

    A compiled update allocates and frees some megabytes at each call. By default glibc returns them to the system,
    which has to clear about a thousand pages at the next call. Returns False if the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(MMAP_THRESHOLD, LARGEST_ON_HEAP) and libc.mallopt(TRIM_THRESHOLD, LARGEST_KEPT))
