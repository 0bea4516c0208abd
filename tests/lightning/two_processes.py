"""Trains both modules on two processes in a Trainer with Lightning's defaults; leaves what each rank's callbacks were shown.

`python two_processes.py FOLDER`
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("", "callbacks")]

import lightning as L  # noqa: E402
from conftest import linear_arrays  # noqa: E402  # pyright: ignore[reportAttributeAccessIssue]
from lightning.pytorch.callbacks import EarlyStopping  # noqa: E402
from small_stages import (  # noqa: E402
    selection,
    small_batches,
    small_dynamics,
    small_refresh,
    small_sac,
    small_samples,
)

from mopo_pl.assembly import build_cloning, build_logged_batches  # noqa: E402
from mopo_pl.config.schema import SACConfig  # noqa: E402
from mopo_pl.data.log.packing import assemble  # noqa: E402
from mopo_pl.data.readers.raw_log import RawLog  # noqa: E402


def main(folder: Path) -> None:
    ones = np.ones(2)
    raw = RawLog(source="a test", **linear_arrays(400))  # type: ignore[arg-type]
    dataset = assemble(raw, name="test", bounds=(-ones, ones), time_limit=None, clip_actions=False)
    settings = SACConfig(hidden_sizes=[16], schedule_epochs=3, updates_per_epoch=5)
    for stage, module, data, callbacks in (
        ("dynamics", small_dynamics(dataset), small_samples(dataset), [selection()]),
        ("policy", small_sac(dataset), small_batches(dataset), [small_refresh(dataset)]),
        ("cloning", build_cloning(settings, dataset, seed=0), build_logged_batches(settings, dataset, seed=0), []),
    ):
        monitored = {"dynamics": "dynamics/holdout_mse_0", "policy": "policy/q1", "cloning": "policy/cloning_error"}[
            stage
        ]
        quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = L.Trainer(
            accelerator="cpu",
            devices=2,
            max_epochs=3,
            callbacks=[*callbacks, EarlyStopping(monitored, patience=9)],
            default_root_dir=folder,
            enable_checkpointing=False,
            **quiet,
        )
        trainer.fit(module, datamodule=data)
        shown = {name: float(value) for name, value in trainer.callback_metrics.items()}
        torch.save(shown, folder / f"{stage}-{trainer.global_rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
