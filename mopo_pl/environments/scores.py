"""Reference returns between which a score of 0 and of 100 lie."""

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
    # This project's own: uniform actions, 500 episodes (-1234), and about what well-trained policies reach (-150).
    "pendulum": (-1234.0, -150.0),
}
"""By environment, whatever its version: scores of v2 data in v5 environments are no published scores (docs/data.md)."""


def normalised_score(env_id: str, value: float) -> float | None:
    """100·(return - minimum)/(maximum - minimum), None where no reference is known.

    Of a return, never of a standard deviation: the map is affine, not linear.
    """
    name = family(env_id).replace("adroithand", "")
    if name not in REFERENCES:
        return None
    low, high = REFERENCES[name]
    return 100 * (value - low) / (high - low)
