"""What a check of a log says."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["OK", "WARN", "STOP"]
LEVELS: tuple[Level, ...] = ("OK", "WARN", "STOP")
"""From good to bad: STOP ends a command before training."""


@dataclass(frozen=True)
class Finding:
    """One thing that a check has found."""

    level: Level
    name: str
    """Of the check; the same in every version."""
    text: str
    """What was found, with counts, rows and columns."""
    fix: str = ""
    """What to do about it."""

    def __str__(self) -> str:
        return f"{self.text}; {self.fix}" if self.fix else self.text


def worst(findings: Iterable[Finding]) -> Level:
    """The worst level of all, OK where there are none."""
    return LEVELS[max((LEVELS.index(finding.level) for finding in findings), default=0)]


def of_level(level: Level, findings: Iterable[Finding]) -> Iterator[str]:
    """The sentences of one level."""
    return (str(finding) for finding in findings if finding.level == level)
