"""How often a verdict was right on policies whose true return is known; the rule is certified only where it beats chance."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path
from typing import Any

STORED = Path(__file__).with_name("hit_rates.json")
"""Written by `benchmarks/labelled_policies.py --judge`."""
FEWEST_LABELS = 20
"""Held-out policies below which nothing is certified."""
SIGNIFICANCE = 0.05
"""Largest probability of a table at least as good by chance."""


@dataclass(frozen=True, kw_only=True)
class HitRates:
    """Of held-out labelled policies: how many had each verdict, and how many of those beat the mean return of their log."""

    logs: tuple[str, ...]
    """Names of the held-out logs."""
    given: Mapping[str, int]
    """Policies by verdict."""
    beat: Mapping[str, int]
    """Those of them that truly beat their log."""

    @classmethod
    def of(cls, labels: Iterable[tuple[str, str, bool]], verdicts: Iterable[str]) -> "HitRates":
        """Of (log, verdict, whether it beat the log) for each policy; `verdicts`: all there are."""
        labels = list(labels)
        return cls(
            logs=tuple(sorted({log for log, _, _ in labels})),
            given={verdict: sum(said == verdict for _, said, _ in labels) for verdict in verdicts},
            beat={verdict: sum(won for _, said, won in labels if said == verdict) for verdict in verdicts},
        )

    @property
    def labels(self) -> int:
        """Number of policies."""
        return sum(self.given.values())

    @property
    def beat_log(self) -> int:
        """Those that beat their log, whatever was said of them."""
        return sum(self.beat.values())

    def chance(self, verdict: str) -> float:
        """Probability that as many policies as here, or more, beat the log among as many drawn blindly (Fisher's exact test).

        >>> HitRates(logs=(), given={"yes": 2, "no": 2}, beat={"yes": 2, "no": 0}).chance("yes") == 1 / 6
        True
        """
        drawn, won, rest = self.given[verdict], self.beat_log, self.labels - self.beat_log
        ways = (comb(won, k) * comb(rest, drawn - k) for k in range(self.beat[verdict], min(drawn, won) + 1))
        return sum(ways) / comb(self.labels, drawn)

    def certifies(self, verdict: str) -> bool:
        """Whether that verdict picks policies that beat their log better than chance does, on enough of them."""
        return self.labels >= FEWEST_LABELS and self.chance(verdict) < SIGNIFICANCE

    def as_json(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self) | {"logs": list(self.logs)}


def stored_hit_rates() -> HitRates:
    """What was measured with this version."""
    found = json.loads(STORED.read_text())
    return HitRates(logs=tuple(found["logs"]), given=found["given"], beat=found["beat"])
