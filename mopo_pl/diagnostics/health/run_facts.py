"""`RunFacts`: the facts about a log and a run's settings that the health signs use."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Facts about all transitions of the log, in the log's units, and about the configuration."""

    reward_low: float
    """Smallest logged reward."""
    reward_high: float
    """Largest logged reward."""
    reward_mean: float
    reward_std: float
    reward_size: float
    """Mean of |r|."""
    reward_top: float
    """The 99 % quantile of the logged rewards."""
    behaviour_return: float
    """Mean return of the log's episodes."""
    terminal_share: float
    """Share of the log's transitions that end an episode."""
    pinned_share: float
    """Share of the entries of logged actions that lie at a bound."""
    discount: float
    """γ."""
    target_entropy: float
    """Target entropy H̄ [nats]."""
    action_dim: int
    """Number of action dimensions."""
    alpha_max: float | None
    """Upper limit of α; None where there is no limit."""
    soft_backup: bool
    """Whether Q contains the entropy of later actions."""
    real_ratio: float
    """Share of each batch that consists of logged rows."""
    known_reward: bool
    """Whether imagined steps receive a reward function of the user, which is not comparable with the log's rewards."""

    @property
    def horizon(self) -> float:
        """Return 1/(1 - γ), the number of steps whose rewards a value effectively sums [steps]."""
        return 1 / (1 - self.discount)

    @property
    def reward_range(self) -> float:
        """Return the distance from the smallest to the largest reward, including the reward 0 after the end of an episode."""
        return max(0.0, self.reward_high) - min(0.0, self.reward_low)

    def reachable(self, *, penalty: float, entropy_bonus: float) -> tuple[float, float]:
        """Return the smallest and largest soft value that rewards within the range of the log allow.

        The interval is [min(0, r_min) - λu + min(0, αH), max(0, r_max) + max(0, αH)]/(1 - γ); rewards are 0 after an episode's end.
        `penalty` is the mean of λu [reward]. `entropy_bonus` is αH of a step [reward], and 0 where the critics' target has no entropy.
        """
        low = min(0.0, self.reward_low) - max(0.0, penalty) + min(0.0, entropy_bonus)
        return low * self.horizon, (max(0.0, self.reward_high) + max(0.0, entropy_bonus)) * self.horizon
