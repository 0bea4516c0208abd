"""Speed of the three phases as a user runs them, beside plain forms and the processor's limit, in alternation in one run.

`python benchmarks/speed.py [--phase sac|rollout|dynamics|growth] [--repetitions 5] [--json FILE]`. Shapes of HalfCheetah
(17 observations, 6 actions), random data: speed does not depend on what the numbers are. Exit code 1 where a floor is missed.
"""

import argparse
import itertools
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn

from mopo_pl.adam import parameters_of
from mopo_pl.assembly import build_data, build_dynamics, build_refresh, build_sac, build_samples, build_selection
from mopo_pl.callbacks import Checkpoints, StageProgress
from mopo_pl.checkpoint_files import REFRESHES, CheckpointFiles, SealedCheckpointIO
from mopo_pl.compose import compose
from mopo_pl.config import Config
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.mixture import OfflineDataModule
from mopo_pl.data.raw import RawLog, assemble
from mopo_pl.data.transitions import Transitions
from mopo_pl.run.metrics_file import MetricsFile
from mopo_pl.sac.module import SACModule

OBS, ACTION = 17, 6
WORK = {"sac": 0.577e9, "rollout": 1.99e6, "dynamics": 1.40e9}
"""Floating-point operations of an update, of an imagined transition, and of a step of the ensemble (7 x 256 rows)."""
FLOORS = {"sac": (0.45, 1.5), "rollout": (0.43, 1.5), "dynamics": (0.48, 1.1)}
"""Share of the limit, and ratio to the plain form."""
OVERHEAD = 0.08
"""Most that the Trainer, its callbacks and logging may cost over a bare loop of the same update."""
UPDATES = 300
"""Updates of a block."""


def log_of(rows: int) -> OfflineDataset:
    """A random log in episodes of 1000 steps."""
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
    """Operations a second of the fastest square fp32 product of size 1024 to 4096."""
    speeds = []
    for size in (1024, 2048, 4096):
        square = torch.randn(size, size)
        for _ in range(4):
            begin = time.perf_counter()
            torch.matmul(square, square)
            speeds.append(2 * size**3 / (time.perf_counter() - begin))
    return max(speeds)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that it takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


class Blocks(L.Callback):
    """Times every epoch of a Trainer, and other forms of the same work between its epochs.

    First in the list: its epoch begins before other callbacks' and, by `Last`, ends after them.
    """

    def __init__(self, others: dict[str, Callable[[], Any]]) -> None:
        self.others = others
        self.seconds: dict[str, list[float]] = {"ours": [], "limit": [], **{name: [] for name in others}}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Times the other forms, then starts the clock."""
        self.seconds["limit"].append(limit())
        for name, work in self.others.items():
            self.seconds[name].append(timed(work))
        self.begin = time.perf_counter()

    def end(self) -> None:
        """Stops the clock."""
        self.seconds["ours"].append(time.perf_counter() - self.begin)


class Last(Checkpoints):
    """Ends the blocks' epoch after everything else."""

    blocks: Blocks

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves when due, as in a run, and stops the clock."""
        super().on_train_epoch_end(trainer, pl_module)
        self.blocks.end()


def trainer_of(stage: str, blocks: Blocks, callbacks: list[L.Callback], epochs: int, folder: Path) -> L.Trainer:
    """As a run builds it: progress, metrics.jsonl, checkpoints."""
    last = Last(
        CheckpointFiles(folder, stage),
        every_minutes=Config().checkpoint.every_minutes,
        signalled=lambda: None,
        score=lambda: None,
    )
    last.blocks = blocks
    progress = StageProgress(stage=stage, watch=(), at_most=False, every_seconds=5.0)
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        callbacks=[blocks, *callbacks, progress, last],
        logger=MetricsFile(folder / "metrics.jsonl", stage=stage),
        plugins=[SealedCheckpointIO()],
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


# Plain forms --------------------------------------------------------------------------------------------------------


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for i, (first, second) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Linear(first, second)] + ([nn.ReLU()] if i < len(sizes) - 2 else [])
    return nn.Sequential(*layers)


class PlainSAC:
    """Soft actor-critic as one writes it first: modules, three losses, three backward passes, fused Adam, eager."""

    def __init__(self, data: OfflineDataModule) -> None:
        self.data = data
        self.actor = mlp(OBS, 256, 256, 2 * ACTION)
        self.critics, self.slow = (nn.ModuleList(mlp(OBS + ACTION, 256, 256, 1) for _ in "12") for _ in "12")
        self.log_alpha = nn.Parameter(torch.zeros(()))
        groups = (self.critics.parameters(), self.actor.parameters(), [self.log_alpha])
        self.optimizers = [torch.optim.Adam(group, lr=3e-4, fused=True) for group in groups]

    def act(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """a and log π(a|s)."""
        mean, log_std = self.actor(states).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
        raw = normal.rsample()
        action = raw.tanh()
        return action, (normal.log_prob(raw) - (1 - action.square() + 1e-6).log()).sum(-1)

    def q(self, critics: nn.ModuleList, states: Tensor, actions: Tensor) -> list[Tensor]:
        """Both values."""
        inputs = torch.cat([states, actions], -1)
        return [critic(inputs).squeeze(-1) for critic in critics]

    def step(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """Down the gradient."""
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def update(self) -> None:
        """One update from a mixed batch."""
        batch = self.data.sample(1)[0]
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            action, log_prob = self.act(batch.next_observations)
            value = torch.minimum(*self.q(self.slow, batch.next_observations, action)) - alpha * log_prob
            target = batch.rewards + 0.99 * (1 - batch.terminals) * value
        values = self.q(self.critics, batch.observations, batch.actions)
        self.step(self.optimizers[0], torch.stack([(q - target).square().mean() for q in values]).sum())
        action, log_prob = self.act(batch.observations)
        best = torch.minimum(*self.q(self.critics, batch.observations, action))
        self.step(self.optimizers[1], (alpha * log_prob - best).mean())
        self.step(self.optimizers[2], -(self.log_alpha * (log_prob.detach() - ACTION)).mean())
        with torch.no_grad():
            for slow, fast in zip(self.slow.parameters(), self.critics.parameters(), strict=True):
                slow.lerp_(fast, 0.005)


def bare_loop(module: SACModule, data: OfflineDataModule) -> None:
    """The module's own update without a Trainer around it, and without its means."""
    graph = module._graph
    assert graph is not None
    for _ in range(UPDATES // data.updates_per_step):
        batches = data.sample(data.updates_per_step)
        graph.run(batches, module._draw_noise(batches))


class PlainEnsemble:
    """The ensemble as one writes it first: a loop over seven networks, one loss, Adam, eager."""

    def __init__(self) -> None:
        self.networks = nn.ModuleList(
            nn.Sequential(
                *(
                    part
                    for first, second in ((OBS + ACTION, 200), (200, 200), (200, 200), (200, 200))
                    for part in (nn.Linear(first, second), nn.SiLU())
                ),
                nn.Linear(200, 2 * (OBS + 1)),
            )
            for _ in range(7)
        )
        self.optimizer = torch.optim.Adam(self.networks.parameters(), lr=1e-3, weight_decay=5e-5)

    def steps(self, batches: list[Transitions]) -> None:
        """One step for each batch [7, B, W]."""
        for batch in batches:
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


# Phases -------------------------------------------------------------------------------------------------------------


def measure_sac(repetitions: int, folder: Path) -> dict[str, float]:
    """Updates with sampling, in a Trainer, beside the plain form and a bare loop."""
    config = compose([f"sac.updates_per_epoch={UPDATES}", f"trainer.max_epochs={10**6}", "rollout.starts=10000"])
    dataset = log_of(100_000)
    module, data = build_sac(config, dataset), build_data(config, dataset, folder / REFRESHES)
    data.ring.begin()
    data.ring.append(dataset.transitions.rows[:50_000], torch.ones(50_000, dtype=torch.bool))
    data.ring.end()
    plain = PlainSAC(data)
    others = {
        "plain": lambda: [plain.update() for _ in range(UPDATES)],
        "bare": lambda: bare_loop(module, data),
    }
    blocks = Blocks(others)
    filled = data.ring

    class Keep(L.Callback):
        """The ring as it was filled: setup opens a new one."""

        def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            data.ring = filled

    trainer_of("policy", blocks, [Keep()], repetitions + 1, folder).fit(module, datamodule=data)
    found = summed("sac", blocks.seconds, UPDATES, "updates/s")
    medians = {name: statistics.median(values[1:]) for name, values in blocks.seconds.items()}
    found["overhead over a bare loop"] = medians["ours"] / medians["bare"] - 1
    return found


def measure_rollouts(repetitions: int, folder: Path) -> dict[str, float]:
    """A refresh of 50 000 starts and 5 steps with the penalty, in chunks, beside all starts at once."""
    config, dataset = compose(["rollout.horizon=5", "termination=never"]), log_of(100_000)
    model = build_dynamics(config, dataset, build_samples(config, dataset)).model()
    actor, data = build_sac(compose(["compile=false"]), dataset), build_data(config, dataset)
    refreshes = {"ours": build_refresh(config, model, dataset)}
    config.rollout.chunk = config.rollout.starts
    refreshes["plain"] = build_refresh(config, model, dataset)
    seconds: dict[str, list[float]] = {"limit": [], "ours": [], "plain": []}
    for refresh in refreshes.values():
        refresh._generator = torch.Generator().manual_seed(0)
    for _ in range(repetitions + 1):
        seconds["limit"].append(limit())
        for name, refresh in refreshes.items():
            seconds[name].append(timed(lambda refresh=refresh: refresh.refresh(actor, data)))
    return summed("rollout", seconds, config.rollout.starts * config.rollout.horizon, "transitions/s")


def measure_dynamics(repetitions: int, folder: Path) -> dict[str, float]:
    """Epochs of the ensemble in a Trainer, validation and selection included, beside a loop over seven networks."""
    config, dataset = compose(["compile=true", "dynamics.max_epochs=200"]), log_of(40_000)
    samples = build_samples(config, dataset)
    module = build_dynamics(config, dataset, samples)
    samples_of_plain = build_samples(config, dataset)
    plain = PlainEnsemble()
    blocks = Blocks({"plain": lambda: plain.steps(list(samples_of_plain))})
    selection = build_selection(config)
    selection.patience = 10**6
    trainer_of("dynamics", blocks, [selection], repetitions + 1, folder).fit(module, datamodule=samples)
    return summed("dynamics", blocks.seconds, len(samples), "steps/s")


def measure_growth(repetitions: int, folder: Path) -> dict[str, float]:
    """Seconds of an update at 10 thousand to 10 million logged rows, as ratios to the first."""
    found = {}
    config = compose([f"trainer.max_epochs={10**6}", "rollout.real_ratio=1", "compile=false"])
    small = log_of(10_000)
    module = build_sac(config, small)
    sizes = [10_000, 100_000, 1_000_000, 10_000_000]
    logs = {size: small.transitions.rows.repeat(size // 10_000, 1) for size in sizes}
    data = build_data(config, small)
    seconds: dict[int, list[float]] = {size: [] for size in sizes}

    def updates(rows: Tensor) -> None:
        data.log_rows = Transitions(rows, OBS, ACTION)
        critic, slow, actor = map(parameters_of, (module.critic, module.slow_critic, module.actor))
        for _ in range(UPDATES):
            batches = data.sample(1)
            noise = module._draw_noise(batches)
            module._critic_update(critic, slow, actor, module.log_alpha.detach(), batches[0], noise[0, 0])

    for _ in range(repetitions + 1):
        for size in sizes:
            seconds[size].append(timed(lambda size=size: updates(logs[size])))
    first = statistics.median(seconds[sizes[0]][1:])
    for size in sizes:
        found[f"{size:.0e} rows"] = statistics.median(seconds[size][1:]) / first
    return found


def summed(phase: str, seconds: dict[str, list[float]], units: int, unit: str) -> dict[str, float]:
    """Medians over the repetitions, the first of which warmed up; the limit is the run's best."""
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    best = max(seconds["limit"])
    share = WORK[phase] * units / medians["ours"] / best
    floor, ratio = FLOORS[phase]
    return {
        unit: units / medians["ours"],
        "plain " + unit: units / medians["plain"],
        "limit [GFLOP/s]": best / 1e9,
        "share of the limit": share,
        "floor": floor,
        "ratio to plain": medians["plain"] / medians["ours"],
        "ratio floor": ratio,
    }


PHASES: dict[str, Callable[[int, Path], dict[str, float]]] = {
    "sac": measure_sac,
    "rollout": measure_rollouts,
    "dynamics": measure_dynamics,
    "growth": measure_growth,
}


def missed(phase: str, found: dict[str, float]) -> list[str]:
    """The floors that were not reached."""
    problems = []
    if phase in FLOORS:
        if found["share of the limit"] < found["floor"]:
            problems.append(f"{phase}: share of the limit {found['share of the limit']:.2f} < {found['floor']}")
        if found["ratio to plain"] < found["ratio floor"]:
            problems.append(f"{phase}: ratio to plain {found['ratio to plain']:.2f} < {found['ratio floor']}")
    if found.get("overhead over a bare loop", 0) > OVERHEAD:
        problems.append(f"loop: overhead {found['overhead over a bare loop']:.2f} > {OVERHEAD}")
    if phase == "growth" and max(found.values()) > 1.15:
        problems.append(f"growth: {max(found.values()):.2f} times the cost of the smallest log")
    return problems


def main() -> int:
    """Measures, prints, and says which floors were missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--phase", choices=sorted(PHASES), action="append")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/speed"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "lightning": L.__version__, "python": platform.python_version()},
    }
    problems = []
    for phase in options.phase or list(PHASES):
        found = PHASES[phase](options.repetitions, options.folder)
        report[phase] = found
        problems += missed(phase, found)
        print(phase, json.dumps({name: round(value, 3) for name, value in found.items()}), flush=True)
    report["memory [MB]"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    for problem in problems:
        print(f"missed: {problem}", file=sys.stderr)
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
