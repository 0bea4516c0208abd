"""What a part of the check is asked and what it finds; a finding is written as soon as it is made."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One measured or checked value."""

    what: str
    value: float | str
    unit: str = ""
    limit: str = ""
    """What it must be, in words."""
    passed: bool | None = None
    """None: a measurement without a limit."""

    @classmethod
    def at_most(cls, what: str, value: float, most: float, unit: str = "") -> "Finding":
        """A value with an upper limit; NaN does not pass."""
        return cls(what=what, value=value, unit=unit, limit=f"at most {most:g}", passed=value <= most)

    @classmethod
    def at_least(cls, what: str, value: float, least: float, unit: str = "") -> "Finding":
        """A value with a lower limit; NaN does not pass."""
        return cls(what=what, value=value, unit=unit, limit=f"at least {least:g}", passed=value >= least)

    @classmethod
    def must(cls, what: str, passed: bool, value: str = "") -> "Finding":
        """Something that must hold; `value`: what was seen."""
        return cls(what=what, value=value or ("yes" if passed else "no"), limit="yes", passed=passed)

    @classmethod
    def not_on_a_cpu(cls, what: str) -> "Finding":
        """What only a GPU can show."""
        return cls(what=what, value="not on a CPU")

    @classmethod
    def out_of_time(cls, what: str) -> "Finding":
        """What the part's time was too short for."""
        return cls(what=what, value="left out: the part's time is used up")

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Task:
    """Where a part runs, and for how long."""

    device: torch.device
    folder: Path
    """For files of its own."""
    seconds: float
    """After which the part is ended."""
    fault: str | None = None
    """A fault put in on purpose, which the part must find."""
    begin: float = field(default_factory=time.monotonic)
    _compiling: list[float] = field(default_factory=list)
    """What a compilation is taken to need, once it was asked for [s]."""

    @property
    def on_cpu(self) -> bool:
        """Whether this only tries the check itself."""
        return self.device.type == "cpu"

    def left(self) -> float:
        """Seconds until the part is ended."""
        return self.seconds - (time.monotonic() - self.begin)

    def has(self, seconds: float) -> bool:
        """Whether a measurement that takes so long can still be made."""
        return self.left() > seconds

    def can_compile(self) -> bool:
        """Whether one more compilation fits.

        On a GPU it is taken to need 45 s; on a CPU, which others may share, four times what the part took until it was
        first asked.
        """
        if not self._compiling:
            self._compiling.append(max(20.0, 4 * (self.seconds - self.left())) if self.on_cpu else 45.0)
        return self.has(self._compiling[0])


def synchronised(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
