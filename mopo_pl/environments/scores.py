"""Reference returns of environments, and the normalised scores that they define."""

from mopo_pl.environments.by_id import family

REFERENCES: dict[str, tuple[float, float]] = {
    # D4RL (Fu et al. 2020): a random policy and an expert, one pair per environment.
    "halfcheetah": (-280.178953, 12135.0),
    "hopper": (-20.272305, 3234.3),
    "walker2d": (1.629008, 4592.3),
    "ant": (-325.6, 3879.7),
    "pen": (96.262799, 3076.8331017826877),
    "hammer": (-274.856578, 12794.134825156867),
    "door": (-56.512833, 2880.5693087298737),
    "relocate": (-6.425911, 4233.877797728884),
    "kitchen": (0.0, 4.0),
    "antmaze": (0.0, 1.0),
    # NeoRL-2 (Gao et al. 2025).
    "dmsd": (30.60, 849.51),
    "safetyhalfcheetah": (-283.0, 2507.0),
    "simglucose": (9.75, 475.0),
    # Measured for this project: uniform actions in 500 episodes (-1234), and about a well-trained policy's return (-150).
    "pendulum": (-1234.0, -150.0),
}
"""Returns with score 0 and with score 100 by environment name, the same for all versions of an environment.

A score of D4RL v2 data in a v5 environment is not comparable to published scores (docs/data.md).
"""


def normalised_score(env_id: str, value: float) -> float | None:
    """Return 100·(return - minimum)/(maximum - minimum), or None for an environment without reference returns.

    `value` is a return. A standard deviation must not be scaled with this function, because it is affine, not linear.

    >>> normalised_score("Hopper-v5", 3234.3)
    100.0
    >>> normalised_score("CartPole-v1", 500.0) is None
    True
    """
    known = references(env_id)
    if known is None:
        return None
    low, high = known
    return 100 * (value - low) / (high - low)


def references(env_id: str) -> tuple[float, float] | None:
    """Look up the returns with score 0 and with score 100 of an environment; return None if there are none."""
    return REFERENCES.get(family(env_id).replace("adroithand", ""))
