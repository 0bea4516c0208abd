"""How often a verdict was right on policies whose true return is known; the rule is certified only where it beats chance."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any, NamedTuple

STORED = Path(__file__).with_name("hit_rates.json")
"""Written by `benchmarks/labelled_policies.py --judge`."""
FEWEST_LABELS = 20
"""Held-out runs below which nothing is certified."""
FEWEST_LOGS = 3
"""Held-out logs that can tell a verdict from chance, below which nothing is certified: one log may suit the rule."""
SIGNIFICANCE = 0.05
"""Largest probability of tables at least as good by chance."""


class Label(NamedTuple):
    """A policy of a held-out log whose true return is known."""

    log: str
    run: str
    """That trained it."""
    verdict: str
    won: bool
    """Whether it beat the mean return of its log."""


@dataclass(frozen=True, kw_only=True)
class HitRates:
    """Of one policy of each held-out run: how many had each verdict, and how many of those beat the mean return of their log."""

    by_log: Mapping[str, Mapping[str, tuple[int, int]]]
    """For each log and verdict: policies with this verdict, and those of them that beat the log."""
    verdicts: tuple[str, ...]
    """All there are."""

    @classmethod
    def of(cls, labels: Iterable[Label], verdicts: Iterable[str]) -> "HitRates":
        """Of labelled policies, the last one of each run alone: snapshots of a run are not independent."""
        verdicts = tuple(verdicts)
        last = {(label.log, label.run): label for label in labels}.values()
        counts = Counter((label.log, label.verdict, label.won) for label in last)
        return cls(
            by_log={
                log: {
                    each: (counts[log, each, True] + counts[log, each, False], counts[log, each, True])
                    for each in verdicts
                }
                for log in sorted({label.log for label in last})
            },
            verdicts=verdicts,
        )

    @property
    def logs(self) -> tuple[str, ...]:
        """Names of the held-out logs."""
        return tuple(self.by_log)

    @property
    def given(self) -> dict[str, int]:
        """Policies by verdict, of all logs."""
        return {each: sum(counts[each][0] for counts in self.by_log.values()) for each in self.verdicts}

    @property
    def beat(self) -> dict[str, int]:
        """Those of them that truly beat their log."""
        return {each: sum(counts[each][1] for counts in self.by_log.values()) for each in self.verdicts}

    @property
    def labels(self) -> int:
        """Number of policies, one a run."""
        return sum(self.given.values())

    @property
    def beat_log(self) -> int:
        """Those that beat their log, whatever was said of them."""
        return sum(self.beat.values())

    def _tables(self, verdict: str) -> Iterator[tuple[int, int, int, int]]:
        """Of each log: policies, those that beat it, those with the verdict, and those with both."""
        for counts in self.by_log.values():
            policies, won = (sum(pair[which] for pair in counts.values()) for which in (0, 1))
            yield policies, won, *counts[verdict]

    def chance(self, verdict: str) -> float:
        """Probability that as many policies as here, or more, beat their log among as many drawn blindly of each log.

        The exact form of the Cochran-Mantel-Haenszel test: within a log each assignment of its verdicts to its policies is
        equally likely, so that the number of policies with both is hypergeometric, and its sum over logs is compared. Logs of
        different base rates therefore prove nothing; with one log it is Fisher's exact test.

        >>> HitRates(by_log={"a": {"yes": (2, 2), "no": (2, 0)}}, verdicts=("yes", "no")).chance("yes") == 1 / 6
        True
        """
        ways, hits, all_ways = [1], 0, 1
        for policies, won, given, both in self._tables(verdict):
            of_log = [comb(won, k) * comb(policies - won, given - k) for k in range(given + 1)]
            summed = [0] * (len(ways) + given)
            for i, before in enumerate(ways):
                for k, here in enumerate(of_log):
                    summed[i + k] += before * here
            ways, hits, all_ways = summed, hits + both, all_ways * comb(policies, given)
        return sum(ways[hits:]) / all_ways

    def telling_logs(self, verdict: str) -> int:
        """Logs whose policies neither all have the verdict, nor none, and neither all beat the log, nor none."""
        return sum(0 < given < policies and 0 < won < policies for policies, won, given, _ in self._tables(verdict))

    def certifies(self, verdict: str) -> bool:
        """Whether that verdict picks policies that beat their log better than chance does, on enough runs of enough logs."""
        enough = self.labels >= FEWEST_LABELS and self.telling_logs(verdict) >= FEWEST_LOGS
        return enough and self.chance(verdict) < SIGNIFICANCE

    def as_json(self) -> dict[str, Any]:
        """As it is stored."""
        by_log = {log: {each: list(pair) for each, pair in counts.items()} for log, counts in self.by_log.items()}
        return {"logs": list(self.logs), "given": self.given, "beat": self.beat, "by_log": by_log}

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> "HitRates":
        """What `as_json` gave."""
        by_log = {
            log: {each: (pair[0], pair[1]) for each, pair in counts.items()} for log, counts in found["by_log"].items()
        }
        return cls(by_log=by_log, verdicts=tuple(found["given"]))


def stored_hit_rates() -> HitRates:
    """What was measured with this version."""
    return HitRates.read(json.loads(STORED.read_text()))
