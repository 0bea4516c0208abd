"""Both modules in a Trainer of the user's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest


@pytest.fixture
def own_trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    """A Trainer with Lightning's defaults, but on the CPU and without a word."""

    def make(*callbacks: L.Callback, **flags: Any) -> L.Trainer:
        silent: dict[str, Any] = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        defaults = {"accelerator": "cpu", "devices": 1, "max_epochs": 2, "default_root_dir": tmp_path, **silent}
        return L.Trainer(callbacks=list(callbacks), **{**defaults, **flags})

    return make
