"""Keys under which logs hold their fields, and the search for them."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from mopo_pl.errors import InputError

NAMES: dict[str, tuple[str, ...]] = {
    "observations": ("obs", "observations", "observation"),
    "actions": ("action", "actions", "act"),
    "rewards": ("reward", "rewards", "rew"),
    "terminals": (
        *("done", "dones", "terminal", "terminals", "termination", "terminations"),
        *("terminated", "terminateds", "is_terminal"),
    ),
    "next_observations": (
        *("next_obs", "next_observations", "next_observation", "new_obs", "obs_next", "obs2"),
        *("next_state", "next_states"),
    ),
    "timeouts": ("timeout", "timeouts", "truncated", "truncateds", "truncation", "truncations"),
    "ends": ("episode_terminals", "is_last", "episode_ends"),
    "starts": ("index", "is_first", "episode_starts"),
    "episodes": ("eps_id", "episode_id", "episode_ids", "episode", "traj_id", "trajectory_id"),
    "times": ("t", "timestep", "timesteps"),
}
"""Keys under which each field is looked for. `done` means terminal. The last four fields mark the ends of episodes in different ways."""
SETTINGS = {
    "observations": "observation",
    "actions": "action",
    "rewards": "reward",
    "terminals": "terminal",
    "timeouts": "truncated",
    "next_observations": "next_observation",
    "episodes": "episode",
    "times": "time",
}
"""Name of the setting of each field in `data.columns`."""
MATRICES = ("observations", "actions", "next_observations")
"""Fields that have several columns."""
DONE = {"done", "dones"}
"""Keys that some libraries write in addition to a key of true terminals, and that are set at time limits too."""
NOTHING = "none"
"""Value in `data.columns` for a field that the log does not have."""
EXAMPLES = {
    "observations": "'data.columns.observation=[temp, level]'",
    "actions": "'data.columns.action=[heater, valve]'",
    "rewards": "data.columns.reward=yield",
}
"""Examples of command line arguments that name the columns of a table."""
REQUIRED = ("observations", "actions", "rewards", "terminals")
SHOWN = 12
"""Largest number of keys that a message lists."""

Columns = Mapping[str, Sequence[str]]
"""Keys or patterns of each field that the user has mapped; empty for a field that the log does not have."""


def find_fields(
    present: Collection[str], source: str, columns: Columns, required: Sequence[str] = REQUIRED, *, table: bool = False
) -> dict[str, list[str]]:
    """Return the keys that hold each field; raise InputError that lists every missing or ambiguous field.

    Args:
        present: Keys of the file.
        source: How messages name the file.
        columns: The user's mapping.
        required: Fields that the log must have.
        table: Whether each key is a column of a table, so that messages show how to name columns.

    """
    found: dict[str, list[str]] = {}
    problems: list[str] = []
    mapped = {key for name, patterns in columns.items() for key in _mapped(name, patterns, present, source, [])}
    for name, names in NAMES.items():
        if name in columns and not columns[name] and name in required:
            problems.append(f"data.columns.{SETTINGS[name]}=[] names nothing: write its key, or leave the setting out")
            matches = []
        elif name in columns:
            matches = list(_mapped(name, columns[name], present, source, problems))
        else:
            matches = [key for key in names if key in present and key not in mapped]
            if name == "terminals" and len(matches) > 1:
                matches = [key for key in matches if key not in DONE] or matches
            if len(matches) > 1 and name not in ("ends", "starts"):
                problems.append(
                    f"{source} has {' and '.join(matches)}: which one holds the {name}? Remove the other{_or_map(name)}"
                )
            elif (
                not matches
                and name in required
                and (taken := [key for key in names if key in mapped and key in present])
            ):
                problems.append(
                    f"{source}: {taken[0]} is used by another setting of data.columns, and no other {name} are there; "
                    f"data.columns.{SETTINGS[name]}=KEY names them"
                )
            elif not matches and name in required:
                kind, fix = "keys", f"data.columns.{SETTINGS[name]}=KEY names another"
                if table:
                    kind, fix = "columns", f"say which columns they are, as in {EXAMPLES[name]}"
                problems.append(
                    f"{source} has no {name}: none of {', '.join(names)} among its {kind} {listed(present)}; {fix}"
                )
            matches = matches[:1]
        if matches:
            found[name] = matches
    problems += _used_twice(found, columns)
    if problems:
        raise InputError(problems)
    return found


def _used_twice(found: Mapping[str, Sequence[str]], columns: Columns) -> Iterator[str]:
    """Yield a message for each key that is used twice in a field, or in two fields.

    A time or a reward may also be a column of the observations, if the user names it in both settings.
    """
    fields: dict[str, list[str]] = {}
    for name, keys in found.items():
        for key in keys:
            fields.setdefault(key, []).append(name)
    for key, names in fields.items():
        both = " and ".join(f"data.columns.{SETTINGS.get(name, name)}" for name in dict.fromkeys(names))
        meant = all(key in columns.get(name, ()) for name in names) and len(set(names) & {*MATRICES}) < 2
        if len(names) > len(set(names)):
            yield f"{both} names {shown(key)} twice: each column is used once"
        elif len(names) > 1 and not meant:
            yield f"{shown(key)} is used by {both}: a column is one of them; name the columns of each, without patterns that take both"


def _mapped(
    name: str, patterns: Sequence[str], present: Collection[str], source: str, problems: list[str]
) -> Iterator[str]:
    """Yield the keys that match the user's patterns, in the order of the patterns and of the file.

    A message is added to `problems` for each pattern without a match.
    """
    for pattern in patterns:
        matches = [pattern] if pattern in present else [key for key in present if fnmatchcase(key, pattern)]
        if not matches:
            near = difflib.get_close_matches(pattern, present, 1)
            parts = [part.strip() for part in pattern.split(",")]
            if len(parts) > 1 and set(parts) <= set(present):
                problems.append(
                    f"data.columns.{SETTINGS[name]}={pattern}: several columns need brackets, as in "
                    f"'data.columns.{SETTINGS[name]}=[{', '.join(parts)}]'"
                )
                continue
            hint = f"did you mean {shown(near[0])}?" if near else f"there are {listed(present)}"
            problems.append(f"data.columns.{SETTINGS[name]}={pattern}: {source} has no such key; {hint}")
        yield from matches


def _or_map(name: str) -> str:
    setting = SETTINGS.get(name)
    return "" if setting is None else f", or set data.columns.{setting}=KEY"


def listed(keys: Collection[str]) -> str:
    """Return a text with the first keys and the number of the others."""
    some = [shown(key) for key, _ in zip(keys, range(SHOWN), strict=False)]
    rest = len(keys) - len(some)
    return ", ".join(some) + (f" and {rest} more" if rest else "")


def shown(text: str, longest: int = 80) -> str:
    """Return a text of a file made safe for messages: on one line, without control characters, and cut to `longest` characters."""
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}…"


def natural_order(name: str) -> list[tuple[str, int]]:
    """Split a name into pairs of a text and the number that follows it, or -1, as a key for natural order.

    >>> sorted(["part-10", "part-9b", "part-9"], key=natural_order)
    ['part-9', 'part-9b', 'part-10']
    """
    return [(text, int(digits or -1)) for text, digits in re.findall(r"(\D*)(\d*)", name)]
