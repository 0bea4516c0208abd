"""`Finding`: the result of a check of a log."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Level = Literal["OK", "WARN", "STOP"]
LEVELS: tuple[Level, ...] = ("OK", "WARN", "STOP")
"""Levels from best to worst; STOP ends a command before training."""


@dataclass(frozen=True)
class Finding:
    """One result of a check."""

    level: Level
    name: str
    """Name of the check, which stays the same in every version."""
    text: str
    """Description of what was found, with counts, rows and columns."""
    fix: str = ""
    """Advice on what to do about it, or empty."""

    def __str__(self) -> str:
        return f"{self.text}; {self.fix}" if self.fix else self.text


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level of the findings, or OK if there are none."""
    return LEVELS[max((LEVELS.index(finding.level) for finding in findings), default=0)]


def of_level(level: Level, findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the texts of the findings of one level."""
    return (str(finding) for finding in findings if finding.level == level)
