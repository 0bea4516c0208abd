"""A service as a program."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start(run: Path, *arguments: str, stdin: int | None = None) -> subprocess.Popen[bytes]:
    """`python -m mopo_pl serve RUN` with these arguments."""
    command = [sys.executable, "-W", "error", "-m", "mopo_pl", "serve", str(run), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False
    )
