"""`RunFacts`: what the signs of health must know of a log and of a run's settings."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Of all transitions of the log, in the log's units, and of the configuration."""

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
    """Share of the entries of logged actions at their bound."""
    discount: float
    """γ."""
    target_entropy: float
    """H̄ [nats]."""
    action_dim: int
    """Number of action dimensions."""
    alpha_max: float | None
    """Upper limit of α; None: none."""
    soft_backup: bool
    """Whether Q contains the entropy of later actions."""
    real_ratio: float
    """Share of each batch that is logged."""
    known_reward: bool
    """Whether imagined steps earn a reward of the user's own, which the log's rewards say nothing about."""

    @property
    def horizon(self) -> float:
        """1/(1 - γ): how many steps' rewards a value sums up [steps]."""
        return 1 / (1 - self.discount)

    @property
    def reward_range(self) -> float:
        """Distance from the smallest to the largest reward, 0 of an ended episode among them."""
        return max(0.0, self.reward_high) - min(0.0, self.reward_low)

    def reachable(self, *, penalty: float, entropy_bonus: float) -> tuple[float, float]:
        """The smallest and largest soft value that rewards within those of the log can add up to.

        [min(0, r_min) - λu + min(0, αH), max(0, r_max) + max(0, αH)]/(1 - γ), with 0 after an episode's end. `penalty`: mean
        of λu [reward]. `entropy_bonus`: αH of a step [reward]; 0 where the critics' target has no entropy.
        """
        low = min(0.0, self.reward_low) - max(0.0, penalty) + min(0.0, entropy_bonus)
        return low * self.horizon, (max(0.0, self.reward_high) + max(0.0, entropy_bonus)) * self.horizon
