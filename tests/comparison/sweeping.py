"""`mopo_pl` whose runs are those of `fake_training.py`, in a process that a test can kill."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mopo_pl.sweep import jobs

FAKE = Path(__file__).with_name("fake_training.py")


def start(arguments: Sequence[str], **files: Any) -> subprocess.Popen:
    """As `start_training`, in tens of milliseconds."""
    return subprocess.Popen([sys.executable, "-S", str(FAKE), *arguments], **files)


if __name__ == "__main__":
    from mopo_pl.__main__ import main

    jobs.start_training = start
    sys.exit(main(sys.argv[1:]))
