"""Every default of the system, each written once.

The dataclasses are OmegaConf structured configs, and frozen: what `auto` and null come to is filled in once, by
`mopo_pl.config.resolve`, in a new object. The docstring under a field is its help text (`python train.py --help`). Files in
`conf/` and the command line only deviate from what stands here.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Optional


@dataclass(frozen=True)
class DataConfig:
    """How `dataset` is opened."""

    source: Optional[str] = None
    """What is opened: a path (.hdf5, .npz), a Minari id, or `collect:pendulum`; null: the value of `dataset` itself."""
    d4rl_folder: str = "~/.d4rl/datasets"
    """Folder in which D4RL names such as `halfcheetah-medium-v2` are looked up."""
    time_limit: Optional[int] = None
    """Length at which episodes are cut where the file marks no time limits (D4RL v0: 1000) [steps]."""
    action_low: Optional[list[float]] = None
    """Lower action bounds, one per dimension; null: from the file's or the environment's space, else -1."""
    action_high: Optional[list[float]] = None
    """Upper action bounds, one per dimension; null: from the file's or the environment's space, else +1."""
    clip_actions: bool = False
    """Clip logged actions that lie outside the bounds instead of refusing them."""
    collect_steps: int = 20_000
    """Length of a log that is collected here (`collect:…` sources) [steps]."""
    collect_seed: int = 0
    """Seed of a log that is collected here."""


@dataclass(frozen=True)
class DynamicsConfig:
    """The Gaussian ensemble p_i(r, Δs | s, a) = N(μ_i, diag σ_i²), and its training."""

    members: int = 7
    """Networks in the ensemble."""
    elites: int = 5
    """Members with the lowest holdout error; rollouts draw among them."""
    hidden_sizes: list[int] = field(default_factory=lambda: [200, 200, 200, 200])
    """Widths of the hidden layers."""
    weight_decay: list[float] = field(default_factory=lambda: [2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4])
    """L2 coefficient of each layer's weights, ½·c·‖W‖², output layer included; biases are free."""
    learning_rate: float = 1e-3
    """Step size of Adam."""
    batch_size: int = 256
    """Rows per member and step, on each device."""
    updates_per_step: int = 10
    """Steps of Adam in one batch of the Trainer; changes no number of a run."""
    bound_coef: float = 0.01
    """Coefficient of Σ max log σ² − Σ min log σ², which keeps the learned bounds tight."""
    normalise_targets: bool = True
    """Fit z-scored targets; rewards, states and u stay in raw units. false: as the original code."""
    beta: float = 0.5
    """β of β-NLL (Seitzer et al. 2022), from 0, the plain likelihood of the original code, to 1, near to squared error."""
    max_epochs: int = 200
    """Upper limit of passes over the bootstrap samples [epochs]."""
    patience: int = 5
    """Epochs in which no member improves, after which training stops at the next such epoch."""
    improvement: float = 0.01
    """Relative fall of a member's holdout error that counts as an improvement."""
    holdout_fraction: float = 0.2
    """Share of the rows held out, up to `holdout_max`."""
    holdout_max: int = 1000
    """Most rows held out."""


@dataclass(frozen=True)
class RolloutConfig:
    """Branched rollouts of the current policy in the learned model."""

    horizon: int = 5
    """h: imagined steps from each logged start [steps]."""
    starts: int = 50_000
    """Logged states from which rollouts start, at each refresh and on each device."""
    every_n_epochs: int = 1
    """Policy epochs between refreshes."""
    retain_epochs: int = 5
    """Refreshes kept; the oldest leaves first."""
    real_ratio: float = 0.05
    """Share of each batch drawn from the log; 1: no model at all."""
    chunk: int = 5000
    """Starts rolled out together at most; bounds memory, and a chunk's hidden layers stay in cache."""
    continue_share: float = 0.0
    """Share of the starts at which rollouts of the last refresh were still running; the rest are logged states."""
    range_widths: float = 10.0
    """How far beyond the log's range an imagined state may lie before its rollout is dropped [widths of that range]."""
    max_dropped: float = 0.5
    """Share of a refresh's rollouts that may be dropped, above which the run stops."""


@dataclass(frozen=True)
class PenaltyConfig:
    """r̃ = r̂ − λ·u(s, a)."""

    name: str = "max_aleatoric"
    """u: max_aleatoric, ensemble_std, disagreement, none, or `module:function`."""
    coef: float = 2.5
    """λ, in units of reward per unit of u; with `relative`, in units of mean |r| / mean u over the log."""
    relative: bool = False
    """λ in units of mean |r| / mean u over logged transitions, so that one value serves logs of different scale."""


@dataclass(frozen=True)
class SACConfig:
    """Soft actor-critic."""

    hidden_sizes: list[int] = field(default_factory=lambda: [256, 256])
    """Widths of the hidden layers of actor and critics."""
    actor_lr: float = 1e-4
    """Step size of the actor's Adam."""
    critic_lr: float = 3e-4
    """Step size of the critics' Adam."""
    alpha_lr: float = 1e-4
    """Step size of the temperature's Adam."""
    actor_schedule: Literal["cosine", "constant"] = "cosine"
    """Course of the actor's step size over the run."""
    schedule_epochs: Optional[int] = None
    """Epochs over which the schedule runs; null: `trainer.max_epochs` at the start of the run."""
    discount: float = 0.99
    """γ."""
    tau: float = 0.005
    """τ: share of the critic that enters the target critics at each update."""
    batch_size: int = 256
    """Rows of an update, on each device."""
    target_entropy: Optional[float] = None
    """H̄ [nats]; null: minus the number of action dimensions."""
    alpha_init: float = 1.0
    """First value of the temperature α."""
    alpha_max: Optional[float] = 1.0
    """Upper limit of α where it is used; null: none."""
    log_std_min: float = -5.0
    """Lower limit of the actor's log σ."""
    log_std_max: float = 2.0
    """Upper limit of the actor's log σ."""
    deterministic_backup: bool = False
    """Leave the entropy term out of the critic's target."""
    gradient_clip_norm: Optional[float] = None
    """Limit of the norm of the critics' gradient and of the actor's; null: none."""
    critics: int = 2
    """Number of critics."""
    critic_layer_norm: bool = False
    """LayerNorm (without scale and shift) in the critics' hidden layers."""
    pessimism: Optional[float] = None
    """κ: value estimate mean − κ·std over the critics; null: their minimum."""
    bound_targets: bool = False
    """Clip the critics' targets into the range of discounted returns that the log's rewards allow."""
    actor_average: Optional[float] = None
    """Decay per update of a running average of the actor, which is then evaluated and exported; null: none."""
    normalise_observations: bool = False
    """Feed actor and critics z-scored observations (statistics of the log)."""
    updates_per_epoch: int = 1000
    """Updates between refreshes, log rows and evaluations."""
    updates_per_step: int = 10
    """Updates in one batch of the Trainer, rounded down to a divisor of `updates_per_epoch`; changes no number of a run."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Episodes in the real environment, where `env_id` names one."""

    episodes: int = 10
    """Deterministic episodes of an evaluation during training."""
    every_n_epochs: int = 1
    """Policy epochs between evaluations."""
    final_episodes: int = 20
    """Deterministic episodes of the evaluation that ends a run."""


@dataclass(frozen=True)
class CheckpointConfig:
    """What a run keeps to be continued from."""

    every_minutes: float = 2.0
    """Least time between two checkpoints at epochs' ends [minutes]."""


@dataclass(frozen=True)
class TrainerConfig:
    """The Lightning Trainer's own flags by their own names, for both stages."""

    accelerator: str = "auto"
    """Hardware: auto, cpu, gpu, …"""
    devices: Any = 1
    """Number of devices, a list of them, or `auto`."""
    num_nodes: int = 1
    """Machines; more than one need torchrun or SLURM to start the run on each."""
    strategy: str = "auto"
    """How processes cooperate: auto, ddp."""
    precision: str = "32-true"
    """Arithmetic: 32-true, or bf16-mixed for the networks' hidden layers, in updates and rollouts alike."""
    max_epochs: int = 1000
    """Length of the policy stage [epochs of `sac.updates_per_epoch` updates]."""
    max_time: Optional[str] = None
    """Longest duration of a stage, DD:HH:MM:SS."""
    limit_train_batches: Optional[Any] = None
    """Training steps of an epoch (int) or share of them (float), each of `updates_per_step` updates; null: all."""
    fast_dev_run: Any = False
    """Run so many batches of each stage only, without checkpoints: a smoke test."""
    deterministic: Optional[Any] = None
    """Refuse (true) or announce (warn) operations that are not reproducible."""
    benchmark: Optional[bool] = None
    """Let cuDNN choose its algorithms by trial."""
    profiler: Optional[str] = None
    """simple, advanced or pytorch."""
    detect_anomaly: bool = False
    """Trace the operation that made a gradient NaN; slow."""
    enable_progress_bar: bool = True
    """A bar on a terminal, a plain line every few seconds off it."""
    enable_model_summary: bool = False
    """Lightning's table of parameters at the start of a stage."""


@dataclass(frozen=True)
class Config:
    """One run."""

    dataset: str = "pendulum"
    """A choice in conf/dataset, a Minari id, or a file: .hdf5 (D4RL keys) or .npz."""
    preset: str = "default"
    """A choice in conf/preset."""
    seed: Any = 0
    """Seed of all random streams; a list makes one run of each."""
    seeds: Literal["auto", "side_by_side", "in_turn"] = "auto"
    """How the runs of a list of seeds train: in processes that share the processor's threads, each with its own memory; or one after another. auto: the first where there are threads for two runs."""
    stage: Literal["all", "dynamics", "policy"] = "all"
    """Which stages run; `policy` needs `dynamics_from`."""
    dynamics_from: Optional[str] = None
    """Run folder whose ensemble is used instead of training one."""
    run_dir: Optional[str] = None
    """Where the run leaves its files; null: runs/<dataset>/<date-time>_s<seed>."""
    resume: Optional[str] = None
    """Run folder to continue; its own configuration applies."""
    env_id: Optional[str] = None
    """Gymnasium environment for evaluation, spaces and termination rule; null: the one the file names, if any; none: none."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment."""
    termination: Optional[str] = None
    """When imagined episodes end: `never`, `module:function`, an environment's id; null: the rule known for `env_id`."""
    compile: Any = "auto"
    """What torch.compile builds: true (all), false (nothing), a list of policy, ensemble and rollouts; auto: where a compiler is found, the policy's update for 5000 updates or more, the ensemble's step for 20 000, the rollouts' for 5 million transitions."""
    threads: Optional[int] = None
    """CPU threads of torch; null: torch's own choice, shared among runs side by side."""
    data: DataConfig = field(default_factory=DataConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=lambda: {"csv": {}})
    """Loggers, a map from name to arguments: csv, tensorboard, wandb, mlflow; {}: none beside metrics.jsonl."""

    @property
    def uses_model(self) -> bool:
        """Whether the policy learns from imagined transitions."""
        return self.stage != "dynamics" and self.rollout.real_ratio < 1

    @property
    def trains_model(self) -> bool:
        """Whether stage 1, the ensemble, is part of the run."""
        return self.dynamics_from is None and (self.stage == "dynamics" or self.uses_model)
