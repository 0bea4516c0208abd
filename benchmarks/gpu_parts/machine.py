"""Part 1: the card, the driver, the versions, and the settings of its products."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import lightning as L
import numpy as np
import torch
from speed import processor
from torch.cuda.nccl import version as nccl_version

from gpu_parts.findings import Finding, Task
from mopo_pl import __version__

LOWEST_PYTHON, LOWEST_TORCH = (3, 11), (2, 8)


def findings(task: Task) -> Iterator[Finding]:
    """Say what machine this is; fail where it cannot run the project."""
    seen = (2, 7) if task.fault == "old-torch" else version_of(torch.__version__)
    yield Finding(what="mopo_pl", value=__version__)
    yield least("Python", sys.version_info[:2], LOWEST_PYTHON, platform.python_version())
    yield least("torch", seen, LOWEST_TORCH, torch.__version__)
    yield Finding(what="CUDA of this torch", value=torch.version.cuda or "none")
    yield Finding(what="lightning, NumPy", value=f"{L.__version__}, {np.__version__}")
    yield Finding(what="processor", value=processor())
    yield Finding(what="CPU cores this process may use", value=len(os.sched_getaffinity(0)))
    yield Finding(what="processes that wanted a core in the last minute", value=os.getloadavg()[0])
    yield Finding(
        what="memory of the machine", value=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, unit="GB"
    )
    yield Finding(what="precision of fp32 products", value=torch.get_float32_matmul_precision())
    yield Finding(what="compilers", value=compilers())
    if task.on_cpu:
        yield Finding.not_on_a_cpu("card, driver, TF32, memory of the card")
        return
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        value = (
            f"{card.name}, {card.multi_processor_count} multiprocessors, compute capability {card.major}.{card.minor}"
        )
        yield Finding(what=f"card {index}", value=value)
        free, total = torch.cuda.mem_get_info(index)
        yield Finding(what=f"memory of card {index}", value=f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    yield Finding(what="driver", value=of_the_driver("driver_version"))
    # In an exclusive mode a second process gets no card: the parts run, ranks and several seeds need one.
    yield Finding(what="compute mode", value=of_the_driver("compute_mode"))
    yield Finding(what="MIG", value=of_the_driver("mig.mode.current"))
    yield Finding(what="what this torch was compiled for", value=" ".join(torch.cuda.get_arch_list()))
    yield Finding(what="TF32 in products", value=str(torch.backends.cuda.matmul.allow_tf32))
    yield Finding(what="cuDNN", value=str(torch.backends.cudnn.version()))
    nccl = torch.distributed.is_available() and torch.distributed.is_nccl_available()
    yield Finding(what="NCCL", value=".".join(map(str, nccl_version())) if nccl else "none")
    yield Finding.must("bf16 products", torch.cuda.is_bf16_supported())


def version_of(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version such as `2.11.0+cu130`."""
    first, second = text.split(".")[:2]
    return int(first), int(second)


def least(what: str, seen: tuple[int, ...], lowest: tuple[int, ...], value: str) -> Finding:
    """Return whether a version is new enough."""
    return Finding(what=what, value=value, limit=f"{'.'.join(map(str, lowest))} or newer", passed=seen >= lowest)


def compilers() -> str:
    """What torch.compile needs: triton for a GPU, which compiles its launcher with a C compiler against Python's headers."""
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    # By their names: a page that is passed on says nothing of where they lie.
    c = next(
        (Path(name).name for name in (os.environ.get("CC"), "gcc", "clang", "cc") if name and shutil.which(name)), ""
    )
    found = [
        "triton" if importlib.util.find_spec("triton") else "no triton",
        c or "no C compiler",
        "g++" if shutil.which("g++") else "no g++",
        "Python.h" if header.exists() else "no Python.h",
    ]
    return ", ".join(found)


def of_the_driver(name: str) -> str:
    """Return what nvidia-smi says of each card."""
    command = ["nvidia-smi", f"--query-gpu={name}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.splitlines()
        return ", ".join(sorted({line.strip() for line in said})) or "unknown"
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"
