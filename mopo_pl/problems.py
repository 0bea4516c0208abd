"""What ends a command with a sentence instead of a traceback: wrong input, and training that diverged."""

from collections.abc import Sequence


class InputError(ValueError):
    """Wrong configuration or data. Each problem is one sentence: what, where, and how to mend it."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class Diverged(RuntimeError):
    """Training produced what is no number. Says which quantity, at which update, and what to try; exit code 1."""

    def __init__(self, quantities: Sequence[str], update: int, lever: str) -> None:
        super().__init__(f"{', '.join(quantities)} not finite by update {update}; try {lever}")
