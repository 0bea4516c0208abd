"""Hit rates of the verdict on policies whose true return is known; a verdict is certified only where it is better than chance."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any, NamedTuple

STORED = Path(__file__).with_name("hit_rates.json")
"""File of the measured hit rates, written by `benchmarks/labelled_policies.py --judge`."""
FEWEST_LABELS = 20
"""Number of held-out runs below which nothing is certified."""
FEWEST_LOGS = 3
"""Number of informative held-out logs below which nothing is certified: a good result on one log may not carry over to others."""
SIGNIFICANCE = 0.05
"""p-value below which a verdict is certified: the probability of at least as many hits by chance."""


class Label(NamedTuple):
    """Verdict on a policy of a held-out log, with its true outcome."""

    log: str
    run: str
    """Run that trained the policy."""
    verdict: str
    won: bool
    """Whether the policy beat the mean return of its log."""


@dataclass(frozen=True, kw_only=True)
class HitRates:
    """Counts of verdicts on one policy of each held-out run, and of the policies among them that beat the mean return of their log."""

    by_log: Mapping[str, Mapping[str, tuple[int, int]]]
    """For each log and verdict: number of policies with this verdict, and number of those that beat the log."""
    verdicts: tuple[str, ...]
    """All possible verdicts."""

    @classmethod
    def of(cls, labels: Iterable[Label], verdicts: Iterable[str]) -> "HitRates":
        """Count labelled policies; of each run only the last one counts, because snapshots of a run are not independent."""
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
        """Return the names of the held-out logs."""
        return tuple(self.by_log)

    @property
    def given(self) -> dict[str, int]:
        """Return the number of policies with each verdict, over all logs."""
        return {each: sum(counts[each][0] for counts in self.by_log.values()) for each in self.verdicts}

    @property
    def beat(self) -> dict[str, int]:
        """Return the number of policies with each verdict that beat their log."""
        return {each: sum(counts[each][1] for counts in self.by_log.values()) for each in self.verdicts}

    @property
    def labels(self) -> int:
        """Return the number of policies, one for each run."""
        return sum(self.given.values())

    @property
    def beat_log(self) -> int:
        """Return the number of policies that beat their log, whatever their verdict."""
        return sum(self.beat.values())

    def _tables(self, verdict: str) -> Iterator[tuple[int, int, int, int]]:
        """Yield for each log the numbers of policies, of those that beat it, of those with the verdict, and of those with both."""
        for counts in self.by_log.values():
            policies, won = (sum(pair[which] for pair in counts.values()) for which in (0, 1))
            yield policies, won, *counts[verdict]

    def chance(self, verdict: str) -> float:
        """Return the probability that randomly drawn policies, as many of each log as have the verdict, beat their log at least as often.

        This is the exact form of the Cochran-Mantel-Haenszel test: within a log each assignment of its verdicts to its policies is
        equally likely, so that the number of policies with both is hypergeometric, and its sum over logs is compared. Differences
        between the base rates of logs therefore have no effect; with one log it is Fisher's exact test.

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
        """Return the number of informative logs: some but not all policies have the verdict, and some but not all beat the log."""
        return sum(0 < given < policies and 0 < won < policies for policies, won, given, _ in self._tables(verdict))

    def certifies(self, verdict: str) -> bool:
        """Return whether policies with that verdict beat their log significantly more often than chance, on enough runs of enough logs."""
        enough = self.labels >= FEWEST_LABELS and self.telling_logs(verdict) >= FEWEST_LOGS
        return enough and self.chance(verdict) < SIGNIFICANCE

    def as_json(self) -> dict[str, Any]:
        """Return the JSON value that is stored."""
        by_log = {log: {each: list(pair) for each, pair in counts.items()} for log, counts in self.by_log.items()}
        return {"logs": list(self.logs), "given": self.given, "beat": self.beat, "by_log": by_log}

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> "HitRates":
        """Rebuild hit rates from the value that `as_json` returned."""
        by_log = {
            log: {each: (pair[0], pair[1]) for each, pair in counts.items()} for log, counts in found["by_log"].items()
        }
        return cls(by_log=by_log, verdicts=tuple(found["given"]))


def stored_hit_rates() -> HitRates:
    """Return the hit rates that were measured with this version and are stored with it."""
    return HitRates.read(json.loads(STORED.read_text()))
