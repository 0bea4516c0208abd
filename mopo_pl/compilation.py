"""Whether the SAC update is compiled."""

import importlib.util
import os
import shutil

import torch

from mopo_pl.problems import InputError

WORTHWHILE = 5000
"""Updates below which compiling costs more than it saves (some 20 s against 5 ms an update, on two CPU cores)."""


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
