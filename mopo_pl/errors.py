"""Exceptions that end a command with a message instead of a traceback."""

from collections.abc import Sequence
from typing import Any


class InputError(ValueError):
    """Wrong configuration or data; exit code 2.

    `problems`: one message per problem, with its location and how to fix it.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


LONGEST = 4000
"""Largest number of printed characters of a message. A message may repeat a value of any length."""


def printed(problem: str) -> str:
    """Return a message as it is printed. The middle of a long message is left out.

    >>> [len(printed("a" * length)) for length in (LONGEST, LONGEST + 1, 10**6)]
    [4000, 4000, 4000]
    >>> printed("b" + "a" * 10**6 + "c").replace("a", "")
    'b … c'
    """
    half = (LONGEST - 3) // 2
    return problem if len(problem) <= LONGEST else f"{problem[: LONGEST - 3 - half]} … {problem[-half:]}"


NO_MEMORY = ("can't allocate memory", "not enough memory", "CUDA out of memory", "Unable to allocate")
"""Parts of the error messages of torch and NumPy when memory cannot be allocated."""


def is_lack_of_memory(error: BaseException) -> bool:
    """Return whether an error means that NumPy, torch or Python could not allocate memory.

    >>> (
    ...     is_lack_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")),
    ...     is_lack_of_memory(RuntimeError("shape")),
    ... )
    (True, False)
    """
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_MEMORY)


def lack_of_memory(error: BaseException) -> str:
    """Return the message about an error for which `is_lack_of_memory` is true."""
    told = " ".join(str(error).split())[:200]
    return f"there is not enough memory{f' ({told})' if told else ''}; choose smaller sizes, or a machine with more"


class Diverged(RuntimeError):
    """Training produced NaN or infinite values, or a model that diverges; exit code 1.

    `what`: the values concerned; `update`: number of updates made; `suggestion`: what to try.
    """

    def __init__(self, what: str, update: int, suggestion: str) -> None:
        super().__init__(f"{what} at update {update}; try {suggestion}")


class ActionsNotFinite(ValueError):
    """A finite observation led to actions that are not finite. A number in the observation, or a weight, is too large.

    `actions`: all actions of the call [..., A], an array or a tensor, NaN in the rows concerned.
    """

    def __init__(self, actions: Any) -> None:
        self.actions = actions
        super().__init__(
            "the action is not finite: the observation holds a number that is too large for the network, or the weights do"
        )


class Unwritable(RuntimeError):
    """A file of the run could not be written; the previous file is unchanged. Exit code 1."""

    def __init__(self, path: object, error: OSError) -> None:
        super().__init__(f"{path} cannot be written ({error.strerror or error})")


class PeerLost(RuntimeError):
    """Another process of the run has ended, so this one cannot continue. Exit code 1."""

    def __init__(self) -> None:
        super().__init__("another process of the run has ended; its last message is printed above")


class RanksDiffer(RuntimeError):
    """The processes of a run hold different weights, which is a bug of the program. Exit code 1."""

    def __init__(self, names: str, update: int) -> None:
        super().__init__(f"processes of the run differ at update {update} in {names}; please report this bug")
