"""All configuration keys and their defaults; each default is written only here.

The dataclasses are frozen OmegaConf structured configs. `mopo_pl.config.resolve` replaces `auto` and null in a copy. The
docstring under a field is its help text (`python train.py --help`). Files in `conf/` and the command line contain only
deviations from these defaults.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional


@dataclass(frozen=True)
class ColumnsConfig:
    """Which array or column of the log holds what; null: the one of the names in docs/data.md that the log has; none: the log has none."""

    observation: Any = None
    """Key, or a list of columns such as [temperature, "joint_*"]; a table of plain columns needs it."""
    action: Any = None
    """Key, or a list of columns; a table of plain columns needs it."""
    reward: Optional[str] = None
    """Key of the rewards."""
    terminal: Optional[str] = None
    """Key of the flags that the task ended, so that no value follows."""
    truncated: Optional[str] = None
    """Key of the flags that a time limit ended the episode."""
    next_observation: Any = None
    """Key, or a list of columns."""
    episode: Optional[str] = None
    """Key of a number or text that is the same in all rows of an episode."""
    time: Optional[str] = None
    """Key of the time; an episode ends where it falls back, and where it skips."""


@dataclass(frozen=True)
class DataConfig:
    """How the dataset is read."""

    source: Optional[str] = None
    """What is opened: a path (.hdf5, .npz, .csv, .csv.gz, .parquet, .arrow, .feather, or a folder of tables), a Minari id, or `collect:pendulum`; null: the value of `dataset`. In a mapping file, seen from its folder."""
    d4rl_folder: str = "~/.d4rl/datasets"
    """Folder that is searched for D4RL names such as `halfcheetah-medium-v2`."""
    time_limit: Optional[int] = None
    """Length at which longer episodes are truncated (D4RL v0, which marks no time limits: 1000) [steps]."""
    drop_time_limits: bool = False
    """Leave out rows at time limits, as D4RL's own loader does; false: they are used where their next state is known."""
    max_rows: Optional[int] = None
    """Number of rows that are used, the last ones of the file; null: all."""
    action_low: Optional[list[float]] = None
    """Lower action bounds, one per dimension; null: those of the file or the environment, else -1."""
    action_high: Optional[list[float]] = None
    """Upper action bounds, one per dimension; null: those of the file or the environment, else +1."""
    clip_actions: bool = False
    """Clip actions outside the bounds instead of refusing the dataset."""
    history: int = 1
    """Observations, and actions between them, that a state holds: more than 1 for systems with delay. Termination rules and known rewards get the newest observation."""
    collect_steps: int = 20_000
    """Length of a dataset that is collected by this program (`collect:…`) [steps]."""
    collect_seed: int = 0
    """Seed of a dataset that is collected by this program."""
    cache: bool = True
    """Keep a log of 20 MB and more, as it was read and checked, in the user's cache folder, from which the next start reads it."""
    units: dict[str, str] = field(default_factory=dict)
    """Units of columns of observations and actions, such as `{temp: °C, "joint_*": rad}`: kept with the policy and its exports. Nothing is converted."""
    device: Literal["training", "cpu"] = "training"
    """Where the log is kept during training. training: on the device of training; cpu: in the host's memory, from which rows are copied to the device beside its work."""
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)


@dataclass(frozen=True)
class DynamicsConfig:
    """The Gaussian ensemble p_i(r, Δs | s, a) = N(μ_i, diag σ_i²), and its training."""

    members: int = 7
    """Number of networks in the ensemble."""
    elites: int = 5
    """Number of members with the lowest holdout error; each imagined step uses one of them at random."""
    hidden_sizes: list[int] = field(default_factory=lambda: [200, 200, 200, 200])
    """Widths of the hidden layers."""
    weight_decay: list[float] = field(default_factory=lambda: [2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4])
    """L2 coefficient c of each layer's weights, ½·c·‖W‖², including the output layer; biases have none."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    batch_size: int = 256
    """Transitions per member and update, on each device."""
    updates_per_step: int = 10
    """Updates made in one batch of the Trainer; does not change results."""
    bound_coef: float = 0.01
    """Coefficient of Σ max log σ² − Σ min log σ², which pulls the learned bounds of log σ² together."""
    normalise_targets: bool = True
    """Train on standardised targets; rewards, states and u keep their units. false: as the original code."""
    beta: float = 0.75
    """β of β-NLL (Seitzer et al. 2022): 0 is the likelihood of the original code, 1 is close to squared error."""
    huber_delta: Optional[float] = 3.0
    """Residual from which on the likelihood counts it linearly instead of squared (Huber 1964) [predicted standard deviations]; null: nowhere."""
    truncated_init: bool = True
    """Draw initial weights from a normal distribution cut at two standard deviations; false: from the whole distribution."""
    max_epochs: Optional[int] = 200
    """Maximum number of passes over the bootstrap samples [epochs]; null: none, `patience` alone ends the training."""
    criterion: Literal["geometric", "mean"] = "mean"
    """Holdout error by which weights and elites are selected: mean over the targets of their mean squared errors, or their geometric mean, which does not depend on their units nor on targets that nobody can predict."""
    patience: int = 5
    """Consecutive epochs without improvement of any member that are tolerated; training stops at the next one."""
    improvement: float = 0.01
    """Relative decrease of a member's holdout error that counts as an improvement."""
    holdout_fraction: float = 0.2
    """Fraction of the transitions held out for validation, limited by `holdout_max`."""
    holdout_max: int = 1000
    """Maximum number of transitions held out."""


@dataclass(frozen=True)
class ClassifierConfig:
    """The classifier of terminal rows that `termination=learned` trains after the ensemble."""

    hidden_sizes: list[int] = field(default_factory=lambda: [128, 128])
    """Widths of the hidden layers."""
    learning_rate: float = 1e-3
    """First learning rate of AdamW, which falls to 0 along a cosine."""
    weight_decay: float = 0.1
    """AdamW's decay of the weights."""
    batch_size: int = 256
    """Transitions per update, half of them terminal, on each device."""
    epochs: int = 10
    """Epochs of training; each ends with a row of metrics of the held-out transitions."""
    updates_per_epoch: int = 500
    """Updates per epoch."""
    holdout_fraction: float = 0.2
    """Fraction of the terminal rows, and of the others, that the threshold is chosen on and the rule is judged by."""


@dataclass(frozen=True)
class RolloutConfig:
    """Branched rollouts of the current policy in the learned model."""

    horizon: int = 20
    """h: length of a rollout [steps]."""
    starts: int = 2500
    """Rollouts per refresh of the model buffer, on each device."""
    every_n_epochs: int = 1
    """Policy epochs between refreshes of the model buffer."""
    retain_epochs: int = 5
    """Number of refreshes that the model buffer keeps; the oldest is dropped first."""
    real_ratio: float = 0.5
    """Fraction of each batch drawn from the dataset; 1: no model is used."""
    chunk: int = 5000
    """Maximum number of rollouts computed together; limits memory and keeps a chunk's activations in cache."""
    continue_share: float = 0.8
    """Share of the starts at which rollouts of the last refresh were still running; the rest are logged states."""
    range_widths: float = 10.0
    """Distance beyond the dataset's range at which an imagined state's rollout is dropped [widths of that range]."""
    max_dropped: float = 0.5
    """Maximum fraction of a refresh's rollouts that may be dropped; above it the run stops."""


@dataclass(frozen=True)
class PenaltyConfig:
    """The penalised reward r̃ = r̂ − λ·u(s, a)."""

    name: str = "ensemble_std"
    """u: max_aleatoric, ensemble_std, disagreement, none, or `module:function`, which may ask for observations, actions and log."""
    coef: float = 1.0
    """λ [reward per unit of u]; with `relative` in units of std r / mean u over the log."""
    relative: bool = True
    """λ in units of std r / mean u over logged transitions, so that one value serves logs of different scale."""
    value_coef: float = 0.5
    """λ_V: subtracts λ_V·std over the elites of r_i + γ(1 − d_i)·V(s'_i), V the target critics' value, from the reward."""
    free_quantile: Optional[float] = 0.5
    """Quantile of u over logged transitions up to which u costs nothing: r̃ = r̂ − λ·max(0, u − u_q); null: all of u costs."""
    halt_widths: Optional[float] = 0.0
    """Imagined episodes end with a step whose next state, or change of state, lies beyond the logged ones by this much, worth the value of the state before less a price, which the range of the log's returns limits [widths of their ranges]; null: none does."""
    halt_share: float = 0.001
    """Share of imagined steps that may end so, beside that of the log's own actions; the price rises while more do."""


@dataclass(frozen=True)
class SACConfig:
    """Soft actor-critic; behaviour cloning takes the actor, its learning rate and schedule, the batch and the updates from here."""

    actor: str = "tanh_gaussian"
    """Policy network: tanh_gaussian, or module:Class with the constructor and the methods of TanhGaussianActor."""
    hidden_sizes: list[int] = field(default_factory=lambda: [256, 256])
    """Widths of the hidden layers of the actor and the critics."""
    actor_lr: float = 3e-4
    """Learning rate of the actor's Adam."""
    critic_lr: float = 3e-4
    """Learning rate of the critics' Adam."""
    alpha_lr: float = 1e-4
    """Learning rate of the temperature's Adam."""
    actor_schedule: Literal["cosine", "constant"] = "cosine"
    """Schedule of the actor's learning rate."""
    schedule_epochs: Optional[int] = None
    """Length of the cosine schedule [epochs]; null: `trainer.max_epochs` at the start of the run."""
    discount: float = 0.99
    """γ, the discount factor."""
    tau: float = 0.005
    """τ of the target critics' moving average, θ' ← (1 − τ)·θ' + τ·θ at each update."""
    batch_size: int = 256
    """Transitions per update, on each device."""
    target_entropy: Optional[float] = None
    """H̄, the target entropy [nats]; null: minus the number of action dimensions."""
    alpha_init: float = 0.1
    """Initial temperature α."""
    alpha_max: Optional[float] = 1.0
    """Upper limit of α in the losses; null: none."""
    log_std_min: float = -5.0
    """Lower limit of the actor's log σ."""
    log_std_max: float = 2.0
    """Upper limit of the actor's log σ."""
    deterministic_backup: bool = False
    """Omit the entropy term from the critics' target."""
    gradient_clip_norm: Optional[float] = None
    """Limit of the norm of the critics' gradient and of the actor's; null: none."""
    critics: int = 2
    """Number of critics."""
    critic_layer_norm: bool = False
    """LayerNorm (without scale and shift) in the critics' hidden layers."""
    pessimism: Optional[float] = None
    """κ: value estimate mean − κ·std over the critics; null: their minimum."""
    start_at_log_value: bool = True
    """Start the critics at the mean discounted return that followed logged states, instead of near 0."""
    bound_targets: bool = True
    """Clip the critics' targets into the range of discounted returns that the log's rewards allow; not with a known `reward`."""
    actor_average: Optional[float] = 0.9997
    """Decay per update of a running average of the actor, which is then evaluated and exported; null: none."""
    normalise_observations: bool = True
    """Standardise the observations for actor and critics, with the statistics of the dataset."""
    updates_per_epoch: int = 1000
    """Updates per epoch of the policy stage."""
    updates_per_step: int = 10
    """Updates made in one batch of the Trainer, rounded down to a divisor of `updates_per_epoch`; does not change results."""


@dataclass(frozen=True)
class EvaluationConfig:
    """Episodes in the real environment; without an `env_id` there are none."""

    episodes: int = 10
    """Episodes per evaluation during training, with deterministic actions."""
    every_n_epochs: int = 1
    """Policy epochs between evaluations."""
    final_episodes: int = 20
    """Episodes of the evaluation at the end of a run, with deterministic actions."""


@dataclass(frozen=True)
class HealthConfig:
    """What a run says about itself: signs in its metrics that the training goes wrong (docs/diagnostics.md)."""

    after: int = 5000
    """Updates of the policy before which nothing is judged, as the critics have not settled."""
    stop: bool = False
    """End the run, with exit code 1, where a sign of level STOP persists: its policy should not be used."""


@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints, from which a run can be resumed."""

    every_minutes: float = 2.0
    """Minimum time between two checkpoints at epoch ends [minutes]."""


@dataclass(frozen=True)
class TrainerConfig:
    """Flags of Lightning's Trainer, for all stages."""

    accelerator: str = "auto"
    """Hardware: auto, cpu, gpu, …"""
    devices: Any = 1
    """Number of devices, a list of them, or `auto`."""
    num_nodes: int = 1
    """Number of machines; with more than one, torchrun or SLURM must start the run on each."""
    strategy: str = "auto"
    """Distributed strategy: auto or ddp."""
    precision: str = "32-true"
    """32-true, or bf16-mixed for the hidden layers of all networks, in updates and rollouts."""
    max_epochs: int = 1000
    """Length of the policy stage [epochs of `sac.updates_per_epoch` updates]."""
    max_time: Optional[str] = None
    """Maximum duration of a stage, DD:HH:MM:SS."""
    limit_train_batches: Optional[Any] = None
    """Batches of the Trainer per epoch (int), or a fraction of them (float), each of `updates_per_step` updates; null: all."""
    fast_dev_run: Any = False
    """Run only this number of batches of each stage (true: 1), without checkpoints, to test a setup."""
    deterministic: Optional[Any] = None
    """true: raise an error at operations that are not reproducible; warn: print a warning."""
    benchmark: Optional[bool] = None
    """Let cuDNN select its algorithms by timing them."""
    profiler: Optional[str] = None
    """Profiler: simple, advanced or pytorch."""
    detect_anomaly: bool = False
    """Report the operation that produced a NaN gradient; slow."""
    enable_progress_bar: bool = True
    """Show a progress bar on a terminal, and print a line every few seconds elsewhere."""
    enable_model_summary: bool = False
    """Print Lightning's table of parameters at the start of a stage."""


@dataclass(frozen=True)
class Config:
    """The configuration of one run."""

    dataset: str = "pendulum"
    """A choice in conf/dataset, a Minari id, a file (.hdf5, .npz, .csv, .csv.gz, .parquet, .arrow, .feather), a folder of tables or of LeRobot, or a mapping file of your own (.yaml)."""
    preset: str = "default"
    """A choice in conf/preset."""
    seed: Any = 0
    """Seed of all random generators; a list starts one run per seed."""
    seeds: Literal["auto", "side_by_side", "in_turn"] = "auto"
    """How a list of seeds is trained. side_by_side: one process per seed, several at a time, which share the CPU threads; in_turn: one run after another; auto: side_by_side if there are threads for at least two runs."""
    algorithm: Literal["sac", "bc"] = "sac"
    """What trains the policy. sac: soft actor-critic on logged and imagined transitions; bc: behaviour cloning, no model is trained."""
    stage: Literal["all", "dynamics", "policy"] = "all"
    """Which stages run: dynamics trains the ensemble, policy the policy; `policy` needs `dynamics_from`."""
    dynamics_from: Optional[str] = None
    """Run folder whose ensemble is used instead of training one."""
    run_dir: Optional[str] = None
    """Run folder; null: runs/<dataset>/<date-time>_s<seed>."""
    group: Optional[str] = None
    """Name under which loggers file this run with others; null: none, or one that the runs of a list of seeds share."""
    resume: Optional[str] = None
    """Run folder of a run to resume, with its stored configuration."""
    env_id: Optional[str] = None
    """Gymnasium environment for evaluation, action bounds and termination rule; null: the environment named in the file; none: no environment."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of `gymnasium.make`."""
    termination: Any = None
    """Rule that ends imagined episodes: `never`, `learned` (from the log's terminals, see `classifier`), `module:function`, an environment id, or limits of observation columns such as {bounds: {temp: [0, 90], "joint_*": [-1, 1]}}; null: the built-in rule for `env_id`."""
    reward: Optional[str] = None
    """Known reward of imagined steps: `module:function` of (s, a, s'), actions in the log's units; null: the learned reward."""
    estimate: bool = True
    """At the end of a run without an environment, estimate the policy's return in the model and by fitted Q evaluation (about half a minute of one core): `python -m mopo_pl estimate`."""
    compile: Any = "auto"
    """Parts compiled by torch.compile: true (all), false (none), or a list of policy, ensemble and rollouts. auto: if a compiler is installed, policy from 5000 updates, ensemble from 20 000 updates, rollouts from 5 million imagined transitions."""
    threads: Optional[int] = None
    """CPU threads of torch; null: torch's default, divided among runs that train side by side."""
    data: DataConfig = field(default_factory=DataConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: dict[str, Any] = field(default_factory=lambda: {"csv": {}})
    """Loggers: names in a list, or a map from name to arguments: csv, tensorboard, wandb, mlflow, module:Class; {}: only metrics.jsonl."""
    callbacks: list[str] = field(default_factory=list)
    """Further Lightning callbacks of all stages, each module:Class (or a function), called without arguments."""
    report: bool = True
    """Write `report.html` into the run folder at the run's end, as `python -m mopo_pl report` does."""

    @property
    def dataset_label(self) -> str:
        """The dataset's name in folders and loggers: a file's without its folder and suffix."""
        path = Path(self.dataset)
        full = path.is_absolute() or self.dataset.startswith((".", "~"))
        label = path.stem if path.suffix or full else self.dataset.replace("/", "-")
        return label.strip(".-") or "log"

    @property
    def uses_model(self) -> bool:
        """Whether the policy is trained on imagined transitions."""
        return self.stage != "dynamics" and self.algorithm == "sac" and self.rollout.real_ratio < 1

    @property
    def trains_model(self) -> bool:
        """Whether the run trains an ensemble (stage 1)."""
        return self.dynamics_from is None and (self.stage == "dynamics" or self.uses_model)

    @property
    def learns_termination(self) -> bool:
        """Whether the run trains a rule of termination, after the ensemble."""
        return self.trains_model and self.termination == "learned"
