"""A statement with its numbers: two sides, and what lies between them."""

from dataclasses import dataclass

TOLERANCE = 1e-9
"""Of a statement's size: what float64 solves may lose at γ up to 0.99."""


@dataclass(frozen=True)
class Equality:
    """left = right."""

    name: str
    """Its short name."""
    claim: str
    """In symbols."""
    left: float
    right: float
    scale: float = 1.0
    """What a rounding error is measured by: the largest number that entered, at least 1."""

    @property
    def residual(self) -> float:
        """|left - right|/scale."""
        return abs(self.left - self.right) / self.scale

    def holds(self, tolerance: float = TOLERANCE) -> bool:
        """Whether the sides agree up to rounding."""
        return self.residual <= tolerance


@dataclass(frozen=True)
class Inequality:
    """left >= right."""

    name: str
    """Its short name."""
    claim: str
    """In symbols."""
    left: float
    right: float

    @property
    def slack(self) -> float:
        """left - right."""
        return self.left - self.right

    @property
    def scaled_slack(self) -> float:
        """The slack in units of the larger side, at least 1."""
        return self.slack / max(1.0, abs(self.left), abs(self.right))

    def holds(self, tolerance: float = TOLERANCE) -> bool:
        """Whether left >= right up to rounding."""
        return self.scaled_slack >= -tolerance
