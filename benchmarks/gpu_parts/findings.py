"""What a part of the check is asked and what it finds; a finding is written as soon as it is made."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

COMPILING_FOR_CPU, COMPILING_FOR_GPU = 12.0, 45.0
"""What a compilation is taken to need on an idle machine; on a CPU, of the small networks that the check is tried with [s]."""


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

    @classmethod
    def raised(cls, what: str, error: BaseException) -> "Finding":
        """What could not be made."""
        return cls.must(what, False, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")

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
    pace: float = 1.0
    """How many times longer than on an idle machine everything takes, at least 1."""
    begin: float = field(default_factory=time.monotonic)
    _compilations: list[float] = field(default_factory=list)
    """Seconds of those that were made."""

    @property
    def on_cpu(self) -> bool:
        """Whether this only tries the check itself."""
        return self.device.type == "cpu"

    def left(self) -> float:
        """Seconds until the part is ended."""
        return self.seconds - (time.monotonic() - self.begin)

    def has(self, seconds: float) -> bool:
        """Whether what takes so long on an idle machine can still be made."""
        return self.left() > seconds * self.pace

    @contextmanager
    def compiling(self) -> Iterator[None]:
        """Learn from the block how long a compilation takes here."""
        begin = time.monotonic()
        yield
        self._compilations.append(time.monotonic() - begin)

    def can_compile(self, then: float = 0.0) -> bool:
        """Whether one more compilation fits, and work that takes `then` seconds on an idle machine.

        It is taken to need a little more than the longest of those that were made; on a CPU, where those that torch has kept from
        another run mislead, not less than one usually does.
        """
        usual = self.pace * (COMPILING_FOR_CPU if self.on_cpu else COMPILING_FOR_GPU)
        learned = 1.2 * max(self._compilations, default=0.0)
        needed = max(usual, learned) if self.on_cpu or not self._compilations else learned
        return self.left() > needed + self.pace * then


def synchronised(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
