"""What is wrong with what the user gave: the one exception that ends a command with exit code 2 and no traceback."""

from collections.abc import Sequence


class InputError(ValueError):
    """Wrong configuration or data. Each problem is one sentence: what, where, and how to mend it."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))
