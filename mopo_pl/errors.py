"""What ends a command with a sentence instead of a traceback: wrong input, and training that diverged."""

from collections.abc import Sequence


class InputError(ValueError):
    """Wrong configuration or data. Each problem is one sentence: what, where, and how to mend it."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class Diverged(RuntimeError):
    """Training came to nonsense. Says what, at which update, and what to try; exit code 1."""

    def __init__(self, what: str, update: int, suggestion: str) -> None:
        super().__init__(f"{what} by update {update}; try {suggestion}")


class Unwritable(RuntimeError):
    """A file of the run could not be written; what was there before is left. Exit code 1."""

    def __init__(self, path: object, error: OSError) -> None:
        super().__init__(f"{path} cannot be written ({error.strerror or error})")


class PeerLost(RuntimeError):
    """Another process of the run has ended, so that this one cannot go on. Exit code 1."""

    def __init__(self) -> None:
        super().__init__("another process of the run has ended; what it said last is above")


class RanksDiffer(RuntimeError):
    """The processes of a run hold different weights, which is a fault of the program. Exit code 1."""

    def __init__(self, names: str, update: int) -> None:
        super().__init__(f"not the same on all processes of the run at update {update}: {names}; please report it")
