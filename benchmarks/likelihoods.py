#!/usr/bin/env python3
"""Compare the likelihoods of the ensemble: held-out error of every target for the options of `dynamics`.

python benchmarks/likelihoods.py --data halfcheetah-mix.hdf5 --epochs 16

Errors are root mean squares in units of the target's standard deviation: 1 is the error of a constant. Two members,
without early stopping or selection of weights, so that each loss is trained for the same number of epochs.
"""

import argparse
import time

import lightning as L
import torch
from torch import Tensor

from mopo_pl.assembly import build_dynamics, build_samples, open_log
from mopo_pl.config.compose import compose
from mopo_pl.dynamics.losses import model_target

OPTIONS = {
    "plain, raw targets": (False, 0.0, None),
    "plain, z-scored targets": (True, 0.0, None),
    "β 0.5, z-scored targets": (True, 0.5, None),
    "β 0.5, z-scored targets, δ 3": (True, 0.5, 3.0),
    "β 0.75, z-scored targets, δ 3": (True, 0.75, 3.0),
    "β 1, z-scored targets": (True, 1.0, None),
}


def fit(arguments: list[str], epochs: int) -> tuple[Tensor, Tensor, float]:
    """Train an ensemble; return the targets' relative errors [T], the mean squared error in raw units, the median of max_i ‖σ_i‖."""
    config = compose(arguments)
    log = open_log(config)
    samples = build_samples(config.dynamics, log, seed=config.seed)
    module = build_dynamics(config.dynamics, samples, seed=config.seed, compile=False)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=samples)
    held_out = log.transitions[samples.holdout]
    target = model_target(held_out)
    with torch.no_grad():
        mean, std = module.model().predict(held_out.inputs)
    squared = (mean - target).square().mean((0, 1))
    return squared.sqrt() / target.std(0), squared.mean(), float(std.norm(dim=-1).amax(0).median())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="dataset, as dataset= of train.py")
    parser.add_argument("--epochs", type=int, default=16, help="passes over the dataset (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: %(default)s)")
    parser.add_argument("settings", nargs="*", help="further key=value")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| likelihood | reward | mean of states | worst state | mean squared error, raw | median u | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, (normalise, beta, delta) in OPTIONS.items():
        start = time.monotonic()
        arguments = [f"dataset={options.data}", "dynamics.members=2", "dynamics.elites=1", "dynamics.holdout_max=20000"]
        arguments += [f"dynamics.normalise_targets={normalise}", f"dynamics.beta={beta}"]
        arguments += [f"dynamics.huber_delta={'null' if delta is None else delta}", *options.settings]
        errors, squared, u = fit(arguments, options.epochs)
        cells = [
            f"{errors[0]:.3f}",
            f"{errors[1:].mean():.3f}",
            f"{errors[1:].max():.3f}",
            f"{squared:.3f}",
            f"{u:.2f}",
        ]
        print(f"| {name} | " + " | ".join([*cells, f"{time.monotonic() - start:.0f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
