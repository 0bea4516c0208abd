"""Under which keys a log holds which field."""

import difflib
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
"""Each field and its keys. `done` means terminal. The last four say where episodes end, each in its own way."""
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
"""Each field and its key of `data.columns`."""
MATRICES = ("observations", "actions", "next_observations")
"""Fields of several columns."""
DONE = {"done", "dones"}
"""Keys that some libraries write next to a key of true terminals, and set at time limits too."""
NOTHING = "none"
"""In `data.columns`: the log does not have the field."""
EXAMPLES = {
    "observations": "'data.columns.observation=[temp, level]'",
    "actions": "'data.columns.action=[heater, valve]'",
    "rewards": "data.columns.reward=yield",
}
"""What is typed to name the columns of a table."""
REQUIRED = ("observations", "actions", "rewards", "terminals")
SHOWN = 12
"""Most keys that a message lists."""

Columns = Mapping[str, Sequence[str]]
"""Each field that the user has mapped, and its keys or patterns; no keys: the log does not have it."""


def find_fields(
    present: Collection[str], source: str, columns: Columns, required: Sequence[str] = REQUIRED, *, table: bool = False
) -> dict[str, list[str]]:
    """Return the keys that hold each field; raise InputError with every field that is missing or ambiguous.

    `table`: each key is a column, so that messages show how columns are named.
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
    """What is said of each key that stands twice in a field, or in two fields.

    The time, or what is paid for, may be a part of the state too, where the user names it in both.
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
    """The keys that fit the user's patterns, in the order of the patterns and of the file."""
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
    """The first keys, and how many there are besides."""
    some = [shown(key) for key, _ in zip(keys, range(SHOWN), strict=False)]
    rest = len(keys) - len(some)
    return ", ".join(some) + (f" and {rest} more" if rest else "")


def shown(text: str, longest: int = 80) -> str:
    """A text of a file as a message may hold it: on one line, no control characters, not too long."""
    text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[: longest + 1])
    return text if len(text) <= longest else f"{text[:longest]}…"
