"""Measure the speed of the three phases as a user runs them, compared with plain implementations and the processor's limit.

`python benchmarks/speed.py [--phase sac|rollout|dynamics|loop|growth|seeds|start] [--repetitions 5] [--json FILE]`. The
implementations alternate within one run. Random data with HalfCheetah's shapes (17 observations, 6 actions), since
speed does not depend on the values. The exit code is 1 if a measurement misses its floor.
"""

import argparse
import itertools
import json
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from operator import truediv
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from mopo_pl.assembly import (
    build_batches,
    build_dynamics,
    build_penalised_model,
    build_refresh,
    build_sac,
    build_samples,
    build_selection,
)
from mopo_pl.callbacks import Checkpoints, RolloutRefresh, StageProgress
from mopo_pl.config.compose import compose
from mopo_pl.config.resolve import resolve
from mopo_pl.config.schema import Config
from mopo_pl.data.batches.policy_batches import OfflineDataModule
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.log.packing import assemble
from mopo_pl.data.readers.raw_log import RawLog
from mopo_pl.data.transitions import Transitions
from mopo_pl.dynamics.bootstrap import EnsembleDataModule
from mopo_pl.dynamics.model import TransitionModel
from mopo_pl.dynamics.module import DynamicsModule
from mopo_pl.dynamics.termination import never
from mopo_pl.nn.fused_update import FusedUpdate
from mopo_pl.nn.layers import parameters_of
from mopo_pl.run.files.metrics_file import MetricsFile
from mopo_pl.sac.module import SACModule
from mopo_pl.storage.checkpoints import REFRESHES, CheckpointFiles, ChecksummedCheckpointIO

OBS, ACTION = 17, 6
WORK = {"sac": 0.577e9, "rollout": 1.99e6, "dynamics": 1.40e9}
"""Floating-point operations of a policy update, of an imagined transition, and of an ensemble update (7 x 256 transitions)."""
FLOORS = {"sac": (0.45, 1.5), "rollout": (0.43, 1.5), "dynamics": (0.48, 1.1)}
"""Minimum fraction of the processor's limit, and minimum speed relative to the plain implementation."""
BF16_FLOOR = 0.70
"""Minimum fraction of the fp32 limit in bf16 on a processor with AMX; on others there is no minimum."""
OVERHEAD = 0.08
"""Maximum relative cost of the Trainer, its callbacks and logging over a bare loop of the same updates."""
MOST = {"--help [s]": 1.0, "to the first row [s]": 15.0, "1 M rows and the model buffer [MB]": 1500.0}
"""Maximum values of `measure_start`."""
PRECISION = ["32-true"]
"""Precision of this project's implementation in the phases of `IN_BF16`."""
SETTINGS: list[str] = []
"""Settings of this project's implementation in the phases of `WORK`, key=value; empty: the default."""
IN_BF16 = ("sac", "rollout", "dynamics", "loop")
UPDATES = 300
"""Updates per measured block."""


def in_precision(work: Callable[[], Any]) -> Callable[[], Any]:
    """Wrap `work` in autocast as a Trainer of the chosen precision does."""
    return torch.autocast("cpu", torch.bfloat16, enabled=PRECISION == ["bf16-mixed"], cache_enabled=False)(work)


def log_of(rows: int) -> OfflineDataset:
    """Return a random dataset of `rows` transitions in episodes of 1000 steps."""
    rng = np.random.default_rng(0)
    raw = RawLog(
        source="random",
        observations=rng.standard_normal((rows, OBS), np.float32),
        actions=rng.uniform(-1, 1, (rows, ACTION)).astype(np.float32),
        rewards=rng.standard_normal(rows, np.float32),
        terminals=np.zeros(rows, bool),
        timeouts=np.arange(1, rows + 1) % 1000 == 0,
        next_observations=rng.standard_normal((rows, OBS), np.float32),
    )
    ones = np.ones(ACTION)
    return assemble(raw, name="random", bounds=(-ones, ones), time_limit=None, clip_actions=False)


def limit() -> float:
    """Return the operations per second of the fastest square fp32 matrix product of size 1024 to 4096."""
    speeds = []
    for size in (1024, 2048, 4096):
        square = torch.randn(size, size)
        for _ in range(4):
            begin = time.perf_counter()
            torch.matmul(square, square)
            speeds.append(2 * size**3 / (time.perf_counter() - begin))
    return max(speeds)


def timed(work: Callable[[], Any]) -> float:
    """Return the seconds that `work` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


class Blocks(L.Callback):
    """Measure the time of each epoch of a Trainer, and of other implementations of the same work between its epochs.

    It must be the first callback: its epoch begins before those of other callbacks and, by `Last`, ends after them.
    """

    def __init__(self, others: dict[str, Callable[[], Any]]) -> None:
        self.others = others
        self.seconds: dict[str, list[float]] = {"ours": [], "limit": [], **{name: [] for name in others}}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure the other implementations, then start the clock."""
        self.seconds["limit"].append(limit())
        for name, work in self.others.items():
            self.seconds[name].append(timed(work))
        self.begin = time.perf_counter()

    def end(self) -> None:
        """Stop the clock."""
        self.seconds["ours"].append(time.perf_counter() - self.begin)


class Last(Checkpoints):
    """End the measured epoch after all other callbacks."""

    blocks: Blocks

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save if due, as in a run, then stop the clock."""
        super().on_train_epoch_end(trainer, pl_module)
        self.blocks.end()


def trainer_of(stage: str, blocks: Blocks, callbacks: list[L.Callback], epochs: int, folder: Path) -> L.Trainer:
    """Build a Trainer as a run does: with progress, metrics.jsonl and checkpoints."""
    last = Last(
        CheckpointFiles(folder, stage),
        every_minutes=Config().checkpoint.every_minutes,
        signalled=lambda: None,
        best_by=lambda: None,
    )
    last.blocks = blocks
    progress = StageProgress(stage=stage, shown=(), at_most=False, every_seconds=5.0)
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=[blocks, *callbacks, progress, last],
        logger=MetricsFile(folder / "metrics.jsonl", stage=stage),
        plugins=[ChecksummedCheckpointIO()],
        enable_model_summary=False,
        num_sanity_val_steps=0,
        precision=PRECISION[0],  # type: ignore[arg-type]
    )


# Plain implementations ----------------------------------------------------------------------------------------------


def mlp(*sizes: int) -> nn.Sequential:
    """Return linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for i, (first, second) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Linear(first, second)] + ([nn.ReLU()] if i < len(sizes) - 2 else [])
    return nn.Sequential(*layers)


class PlainSAC:
    """Soft actor-critic in its simplest form: modules, three losses, three backward passes, fused Adam, eager."""

    def __init__(self, data: OfflineDataModule, hidden: Sequence[int] = (256, 256)) -> None:
        self.data = data
        self.actor = mlp(OBS, *hidden, 2 * ACTION)
        self.critics, self.targets = (nn.ModuleList(mlp(OBS + ACTION, *hidden, 1) for _ in "12") for _ in "12")
        self.log_alpha = nn.Parameter(torch.zeros(()))
        groups = (self.critics.parameters(), self.actor.parameters(), [self.log_alpha])
        self.optimizers = [torch.optim.Adam(group, lr=3e-4, fused=True) for group in groups]

    def act(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Sample a and return it with log π(a|s)."""
        mean, log_std = self.actor(states).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
        raw = normal.rsample()
        action = raw.tanh()
        return action, (normal.log_prob(raw) - (1 - action.square() + 1e-6).log()).sum(-1)

    def q(self, critics: nn.ModuleList, states: Tensor, actions: Tensor) -> list[Tensor]:
        """Return the values of both critics."""
        inputs = torch.cat([states, actions], -1)
        return [critic(inputs).squeeze(-1) for critic in critics]

    def step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """Make one step of gradient descent."""
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def update(self) -> None:
        """Make one update from a batch of logged and imagined transitions."""
        batch = self.data.sample(1)[0]
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            action, log_prob = self.act(batch.next_observations)
            value = torch.minimum(*self.q(self.targets, batch.next_observations, action)) - alpha * log_prob
            target = batch.rewards + 0.99 * (1 - batch.terminals) * value
        values = self.q(self.critics, batch.observations, batch.actions)
        self.step(self.optimizers[0], torch.stack([(q - target).square().mean() for q in values]).sum())
        action, log_prob = self.act(batch.observations)
        best = torch.minimum(*self.q(self.critics, batch.observations, action))
        self.step(self.optimizers[1], (alpha * log_prob - best).mean())
        self.step(self.optimizers[2], -(self.log_alpha * (log_prob.detach() - ACTION)).mean())
        with torch.no_grad():
            for average, parameter in zip(self.targets.parameters(), self.critics.parameters(), strict=True):
                average.lerp_(parameter, 0.005)


def bare_loop(module: SACModule, data: OfflineDataModule, fused: FusedUpdate | None = None) -> None:
    """Make a block of the module's own updates without a Trainer and without its metrics."""
    fused = fused or module._fused
    assert fused is not None
    for _ in range(UPDATES // data.updates_per_step):
        batches = data.sample(data.updates_per_step)
        fused.run(batches, module.draw_noise(batches), module.average_rates(len(batches)))


class PlainEnsemble:
    """The ensemble in its simplest form: a loop over seven networks, one loss, Adam, eager."""

    def __init__(self, hidden: Sequence[int] = (200, 200, 200, 200)) -> None:
        self.networks = nn.ModuleList(
            nn.Sequential(
                *(
                    part
                    for first, second in itertools.pairwise((OBS + ACTION, *hidden))
                    for part in (nn.Linear(first, second), nn.SiLU())
                ),
                nn.Linear(hidden[-1], 2 * (OBS + 1)),
            )
            for _ in range(7)
        )
        self.optimizer = torch.optim.Adam(self.networks.parameters(), lr=1e-3, weight_decay=5e-5)

    def steps(self, blocks: EnsembleDataModule) -> None:
        """Make one update for each batch [7, B, W] of an epoch."""
        for batch in (block[k] for block in blocks for k in range(len(block))):
            target = torch.cat([batch.rewards.unsqueeze(-1), batch.next_observations - batch.observations], -1)
            loss = torch.zeros(())
            for network, inputs, wanted in zip(self.networks, batch.inputs, target, strict=True):
                mean, log_var = network(inputs).chunk(2, -1)
                log_var = 0.5 - nn.functional.softplus(0.5 - log_var)
                log_var = -10 + nn.functional.softplus(log_var + 10)
                loss = loss + ((mean - wanted).square() * (-log_var).exp() + log_var).mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def parts_of(
    config: Config, dataset: OfflineDataset, refresh_folder: Path | None = None
) -> tuple[SACModule, OfflineDataModule]:
    """Build the policy and its batches as a run of this configuration does."""
    config = resolve(config, rows=len(dataset), threads=torch.get_num_threads(), device="cpu")
    module = build_sac(config.sac, dataset, seed=config.seed, compile="policy" in config.compile)
    return module, build_batches(config.sac, config.rollout, dataset, seed=config.seed, refresh_folder=refresh_folder)


def ensemble_of(config: Config, dataset: OfflineDataset) -> tuple[DynamicsModule, EnsembleDataModule]:
    """Build the ensemble and its batches as a run of this configuration does."""
    config = resolve(config, rows=len(dataset), threads=torch.get_num_threads(), device="cpu")
    samples = build_samples(config.dynamics, dataset, seed=config.seed)
    return build_dynamics(config.dynamics, samples, seed=config.seed, compile="ensemble" in config.compile), samples


def refresh_of(config: Config, model: TransitionModel, dataset: OfflineDataset) -> RolloutRefresh:
    """Build the callback that fills the model buffer as a run of this configuration does."""
    config = resolve(config, rows=len(dataset), threads=torch.get_num_threads(), device="cpu")
    penalised = build_penalised_model(config.penalty, model, never, dataset, discount=config.sac.discount)
    compiled = "rollouts" in config.compile
    return build_refresh(config.rollout, penalised, dataset, seed=config.seed, compile=compiled)


# Phases -------------------------------------------------------------------------------------------------------------


def sac_seconds(repetitions: int, folder: Path) -> dict[str, list[float]]:
    """Return the seconds of blocks of updates with sampling: in a Trainer, by the plain implementation, and in a bare loop."""
    config = compose(
        [*SETTINGS, f"sac.updates_per_epoch={UPDATES}", f"trainer.max_epochs={10**6}", "rollout.starts=10000"]
    )
    dataset = log_of(100_000)
    module, data = parts_of(config, dataset, refresh_folder=folder / REFRESHES)
    fill(data)
    plain = PlainSAC(data)
    others = {
        "plain": lambda: [plain.update() for _ in range(UPDATES)],
        "bare": in_precision(lambda: bare_loop(module, data)),
    }
    blocks = Blocks(others)
    filled = data.model_buffer

    class Keep(L.Callback):
        """The model buffer as it was filled: setup opens a new one."""

        def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            data.model_buffer = filled

    trainer_of("policy", blocks, [Keep()], repetitions + 1, folder).fit(module, datamodule=data)
    return blocks.seconds


def fill(data: OfflineDataModule) -> None:
    """Add one refresh of 50 000 transitions to the model buffer."""
    rows = data.log_rows.rows[:50_000]
    data.model_buffer.begin()
    data.model_buffer.append(rows, torch.ones(len(rows), dtype=torch.bool))
    data.model_buffer.end()


def measure_sac(repetitions: int, folder: Path) -> dict[str, float]:
    """Measure updates with sampling in a Trainer, compared with the plain implementation."""
    return report_of("sac", sac_seconds(repetitions, folder), UPDATES, "updates/s")


def measure_loop(repetitions: int, folder: Path) -> dict[str, float]:
    """Measure the cost of the Trainer, its callbacks and logging over a bare loop of the same updates.

    The overhead is the median over the repetitions; each is compared with the bare loop measured just before it.
    """
    seconds = sac_seconds(repetitions, folder)
    ours, bare = (seconds[name][1:] for name in ("ours", "bare"))
    return {
        "updates/s": UPDATES / statistics.median(ours),
        "bare updates/s": UPDATES / statistics.median(bare),
        "overhead over a bare loop": statistics.median(map(truediv, ours, bare)) - 1,
    }


def started(refresh: RolloutRefresh, module: SACModule) -> RolloutRefresh:
    """Return the callback after its `on_fit_start`."""
    refresh.on_fit_start(cast(Any, SimpleNamespace(global_rank=0, ckpt_path=None)), module)
    return refresh


class Batched(TransitionModel):
    """A model that evaluates all members' networks as one batched product."""

    def predict(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `TransitionModel.predict` returns."""
        return super().predict(inputs.expand(self.ensemble.members, *inputs.shape))


def measure_rollouts(repetitions: int, folder: Path) -> dict[str, float]:
    """Measure a refresh of 50 000 starts and 5 steps with the penalty, compared with all starts and members at once, eager, fp32."""
    rollouts = [*SETTINGS, "rollout.starts=50000", "rollout.horizon=5", "termination=never"]
    config, dataset = compose([*rollouts, "compile=true"]), log_of(100_000)
    model = ensemble_of(config, dataset)[0].model()
    actor, data = parts_of(compose([*rollouts, "compile=false"]), dataset)
    refreshes = {"ours": refresh_of(config, model, dataset)}
    assert refreshes["ours"].compile
    unchunked = compose([*rollouts, "compile=false", f"rollout.chunk={config.rollout.starts}"])
    refreshes["plain"] = refresh_of(unchunked, Batched(ensemble=model.ensemble, elites=model.elites), dataset)
    seconds: dict[str, list[float]] = {"limit": [], "ours": [], "plain": []}
    works: dict[str, Callable[[], Any]] = {
        name: partial(started(refresh, actor).refresh, actor, data) for name, refresh in refreshes.items()
    }
    works["ours"] = in_precision(works["ours"])
    for _ in range(repetitions + 1):
        seconds["limit"].append(limit())
        for name, work in works.items():
            seconds[name].append(timed(work))
    return report_of("rollout", seconds, config.rollout.starts * config.rollout.horizon, "transitions/s")


def measure_dynamics(repetitions: int, folder: Path) -> dict[str, float]:
    """Measure epochs of the ensemble in a Trainer, including validation and selection, compared with a loop over seven networks."""
    config, dataset = compose([*SETTINGS, "compile=true", "dynamics.max_epochs=200"]), log_of(40_000)
    module, samples = ensemble_of(config, dataset)
    _, samples_of_plain = ensemble_of(config, dataset)
    plain = PlainEnsemble()
    blocks = Blocks({"plain": lambda: plain.steps(samples_of_plain)})
    selection = build_selection(config.dynamics)
    selection.patience = 10**6
    trainer_of("dynamics", blocks, [selection], repetitions + 1, folder).fit(module, datamodule=samples)
    return report_of("dynamics", blocks.seconds, samples.steps, "steps/s")


SEEDS = 4
"""Number of runs in `measure_seeds`."""


def filled(seed: int, options: list[str], dataset: OfflineDataset) -> tuple[SACModule, OfflineDataModule, FusedUpdate]:
    """Build a policy of one seed, its batches, and its update as a run does."""
    config = compose([f"seed={seed}", f"sac.updates_per_epoch={UPDATES}", "trainer.max_epochs=1000", *options])
    module, data = parts_of(config, dataset)
    fill(data)
    return module, data, module.fused_update(module.configure_optimizers()[0])


def in_process_of_its_own(seed: int, options: list[str], threads: int, orders: Connection) -> None:
    """Make one seed's updates in a process, one block per order received."""
    torch.set_num_threads(threads)
    run = filled(seed, options, log_of(100_000))
    while orders.recv():
        bare_loop(*run)
        orders.send(True)


def measure_seeds(repetitions: int, folder: Path) -> dict[str, float]:
    """Measure the total updates per second of four seeds in each mode of `seeds`.

    The second measurement uses small networks and batches, where launching a kernel costs more than its work.
    """
    found: dict[str, float] = {}
    small = ["sac.hidden_sizes=[32,32]", "sac.batch_size=32"]
    for name, options in (("", ["rollout.starts=10000"]), ("small ", ["rollout.starts=10000", *small])):
        dataset, threads = log_of(100_000), torch.get_num_threads()
        runs = [filled(seed, options, dataset) for seed in range(SEEDS)]

        at_once, spawn, orders = min(SEEDS, threads), get_context("spawn"), []
        for seed in range(SEEDS):
            ours, theirs = spawn.Pipe()
            share = (seed, options, max(1, threads // SEEDS), theirs)
            spawn.Process(target=in_process_of_its_own, args=share, daemon=True).start()
            theirs.close()  # so that the end of the process is noticed
            orders.append(ours)

        def side_by_side(orders: list[Connection] = orders, at_once: int = at_once) -> None:
            for first in range(0, SEEDS, at_once):
                for order in orders[first : first + at_once]:
                    order.send(True)
                for order in orders[first : first + at_once]:
                    order.recv()

        manners = {
            "in turn": lambda runs=runs: [bare_loop(*run) for run in runs],
            "side by side": side_by_side,
        }
        seconds: dict[str, list[float]] = {manner: [] for manner in manners}
        for _ in range(repetitions + 1):
            for manner, work in manners.items():
                seconds[manner].append(timed(work))
        for order in orders:
            order.send(False)
        medians = {manner: statistics.median(values[1:]) for manner, values in seconds.items()}
        found |= {f"{name}{manner}, updates/s": SEEDS * UPDATES / value for manner, value in medians.items()}
        found[f"{name}side by side over in turn"] = medians["in turn"] / medians["side by side"]
    return found


def measure_growth(repetitions: int, folder: Path) -> dict[str, float]:
    """Measure the time to draw a batch and update the critics at 10 thousand to 10 million transitions, relative to the first."""
    found = {}
    config = compose([f"trainer.max_epochs={10**6}", "rollout.real_ratio=1", "compile=false"])
    small = log_of(10_000)
    module, data = parts_of(config, small)
    sizes = [10_000, 100_000, 1_000_000, 10_000_000]
    logs = {size: small.transitions.rows.repeat(size // 10_000, 1) for size in sizes}
    seconds: dict[int, list[float]] = {size: [] for size in sizes}

    def updates(rows: Tensor) -> None:
        data.log_rows = Transitions(rows, OBS, ACTION)
        critic, slow, actor = map(parameters_of, (module.critic, module.target_critic, module.actor))
        for _ in range(UPDATES):
            batches = data.sample(1)
            noise = module.draw_noise(batches)
            module._plain.gradients.of_critic(critic, slow, actor, module.log_alpha.detach(), batches[0], noise[0, 0])

    for _ in range(repetitions + 1):
        for size in sizes:
            seconds[size].append(timed(lambda size=size: updates(logs[size])))
    first = statistics.median(seconds[sizes[0]][1:])
    for size in sizes:
        found[f"{size:.0e} rows"] = statistics.median(seconds[size][1:]) / first
    return found | rollout_growth(repetitions)


def rollout_growth(repetitions: int) -> dict[str, float]:
    """Measure the time of a refresh per imagined transition, relative to 5000 starts and one step."""
    options, dataset = ["termination=never", "compile=false"], log_of(100_000)
    model = ensemble_of(compose(options), dataset)[0].model()
    actor, data = parts_of(compose([*options, "rollout.starts=80000", "rollout.horizon=10"]), dataset)
    shapes = [(5000, 1), (5000, 10), (20_000, 1), (80_000, 1)]
    seconds: dict[tuple[int, int], list[float]] = {shape: [] for shape in shapes}
    for _ in range(repetitions + 1):
        for shape in shapes:
            sized = compose([*options, f"rollout.starts={shape[0]}", f"rollout.horizon={shape[1]}"])
            refresh = started(refresh_of(sized, model, dataset), actor)
            seconds[shape].append(timed(lambda refresh=refresh: refresh.refresh(actor, data)) / (shape[0] * shape[1]))
    first = statistics.median(seconds[shapes[0]][1:])
    return {f"{n} starts, h {h}": statistics.median(seconds[n, h][1:]) / first for n, h in shapes}


def measure_start(repetitions: int, folder: Path) -> dict[str, float]:
    """Measure the time of `--help` and from process start to the first metrics row, after ten compiled updates [s].

    Also the peak memory of a run on a million transitions of HalfCheetah's shapes with the default model buffer [MB].
    """
    options = ["trainer.max_epochs=1", "sac.updates_per_epoch=10", "compile=[policy]", "logger=none"]
    quick = [*options, "preset=offline-sac", "evaluation.episodes=1", "evaluation.final_episodes=1"]
    help_seconds, first_row = [], []
    train(quick, folder / "warm")  # fills the compiler's cache
    for i in range(repetitions):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mopo_pl", "train", "--help"], stdout=subprocess.DEVNULL, check=True)
        help_seconds.append(time.perf_counter() - begin)
        first_row.append(train(quick, folder / f"start{i}")[0])
    log = log_of(1_000_000).transitions
    file = folder / "million.npz"
    names = {"obs": "observations", "action": "actions", "reward": "rewards", "next_obs": "next_observations"}
    arrays: dict[str, Any] = {name: getattr(log, field).numpy() for name, field in names.items()}
    np.savez(file, **arrays, done=np.zeros(1_000_000, bool), timeout=np.arange(1, 1_000_001) % 1000 == 0)
    del log, arrays
    large = [f"dataset={file}", "termination=never", "dynamics.max_epochs=1", "trainer.limit_train_batches=20"]
    large.append("trainer.max_epochs=5")  # refreshes that fill the model buffer
    memory = train([*options, *large], folder / "large")[1]
    file.unlink()
    return {
        "--help [s]": statistics.median(help_seconds),
        "to the first row [s]": statistics.median(first_row),
        "1 M rows and the model buffer [MB]": memory,
    }


def train(arguments: list[str], run: Path) -> tuple[float, float]:
    """Return the seconds until a run's first metrics row, and its peak memory [MB]."""
    shutil.rmtree(run, ignore_errors=True)
    begin = time.perf_counter()
    command = [sys.executable, "-m", "mopo_pl", "train", *arguments, f"run_dir={run}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows, seconds, largest = run / "metrics.jsonl", 0.0, 0.0
    while (status := process.poll()) is None:
        largest = max(largest, peak(process.pid))
        if not seconds and rows.exists() and rows.stat().st_size:
            seconds = time.perf_counter() - begin
        time.sleep(0.05)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {status}")
    return seconds, largest


def peak(pid: int) -> float:
    """Return the peak memory of a process so far [MB].

    `os.wait4` would include memory of the parent before the fork.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return max((float(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM")), default=0.0)


def report_of(phase: str, seconds: dict[str, list[float]], units: int, unit: str) -> dict[str, float]:
    """Return medians over the repetitions without the first, which is a warm-up; the limit is the maximum over the run.

    "of the limit beside it": the median of each repetition's fraction of the matrix product measured just before it,
    which is less affected by a machine whose speed varies.
    """
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    best = max(seconds["limit"])
    beside = list(zip(seconds["ours"], seconds["limit"], strict=True))[1:]
    share = WORK[phase] * units / medians["ours"] / best
    floor, ratio = FLOORS[phase]
    if PRECISION == ["bf16-mixed"]:
        floor = BF16_FLOOR if torch.cpu.get_capabilities().get("amx_bf16") else 0.0
    return {
        unit: units / medians["ours"],
        "plain " + unit: units / medians["plain"],
        "limit [GFLOP/s]": best / 1e9,
        "share of the limit": share,
        "of the limit beside it": statistics.median(WORK[phase] * units / ours / at for ours, at in beside),
        "floor": floor,
        "ratio to plain": medians["plain"] / medians["ours"],
        "ratio floor": ratio,
    }


PHASES: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "sac": measure_sac,
    "rollout": measure_rollouts,
    "dynamics": measure_dynamics,
    "loop": measure_loop,
    "growth": measure_growth,
    "seeds": measure_seeds,
    "start": measure_start,
}


def missed(phase: str, found: dict[str, float]) -> list[str]:
    """Return one message for each measurement that misses its floor."""
    problems = []
    if phase in FLOORS:
        if found["share of the limit"] < found["floor"]:
            problems.append(f"{phase}: share of the limit {found['share of the limit']:.2f} < {found['floor']}")
        if found["ratio to plain"] < found["ratio floor"]:
            problems.append(f"{phase}: ratio to plain {found['ratio to plain']:.2f} < {found['ratio floor']}")
    if found.get("overhead over a bare loop", 0) > OVERHEAD:
        problems.append(f"loop: overhead {found['overhead over a bare loop']:.2f} > {OVERHEAD}")
    for name, most in MOST.items():
        if found.get(name, 0) > most:
            problems.append(f"{phase}: {name} {found[name]:.3g} > {most}")
    if phase == "growth" and max(found.values()) > 1.15:
        problems.append(f"growth: {max(found.values()):.2f} times the cost of the smallest")
    return problems


def processor() -> str:
    """Return the processor's name (on Linux) and number of cores."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.machine()


def main() -> int:
    """Measure, print, and return 1 if a measurement misses its floor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--phase", choices=sorted(PHASES), action="append")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/speed"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true", help="of our forms")
    parser.add_argument(
        "--settings", nargs="*", default=[], help="of our forms of sac, rollout and dynamics, key=value"
    )
    options = parser.parse_args()
    phases = options.phase or [phase for phase in PHASES if options.precision == "32-true" or phase in IN_BF16]
    if options.precision != "32-true" and not set(phases) <= set(IN_BF16):
        parser.error(f"--precision {options.precision} is measured in --phase {', '.join(IN_BF16)} alone")
    PRECISION[:], SETTINGS[:] = [options.precision], options.settings
    options.folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "machine": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "precision": options.precision,
        "versions": {"torch": torch.__version__, "lightning": L.__version__, "python": platform.python_version()},
    }
    print(json.dumps(report), flush=True)
    problems = []
    for phase in phases:
        found = PHASES[phase](options.repetitions, options.folder)
        report[phase] = found
        problems += missed(phase, found)
        print(phase, json.dumps({name: round(value, 3) for name, value in found.items()}), flush=True)
    report["memory [MB]"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"memory {report['memory [MB]']:.0f} MB at most", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    for problem in problems:
        print(f"missed: {problem}", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
