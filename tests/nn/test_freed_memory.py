"""Memory that is freed and taken again."""

import platform
import subprocess
import sys

import pytest

from mopo_pl.nn.compilation import keep_freed_memory

PROGRAM = """
import resource
import torch
from mopo_pl.nn.compilation import keep_freed_memory

torch.set_num_threads(1)

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.ones(500_000) for _ in range(4)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = pages()
assert keep_freed_memory()
pages()
print(fresh, pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_is_taken_again_is_not_cleared_again_by_the_system() -> None:
    """Four blocks of 2 MB, 20 times: up to 2000 pages at a time, fewer where the heap happens to begin well, or none."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    fresh, kept = map(int, done.stdout.split())
    assert kept < 100
    assert fresh > 2000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("musl", "1.2"))
    monkeypatch.setattr("ctypes.CDLL", None)
    assert keep_freed_memory() is False
