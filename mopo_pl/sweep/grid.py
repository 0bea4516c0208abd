"""The grid of a sweep. `key=a,b` gives two values of a key, and the grid is all combinations of the values of all keys."""

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mopo_pl.config.keys import single_value_keys
from mopo_pl.config.sources.choices import GROUPS
from mopo_pl.errors import InputError

OPEN, CLOSE, QUOTES = "([{", ")]}", "'\""
LONGEST = 40
"""Largest number of characters of a value in the name of a folder."""


@dataclass(frozen=True)
class Grid:
    """Settings in the order of the command line, each with one or more values."""

    alternatives: Mapping[str, tuple[str, ...]]
    """Values of each key, as text."""

    @classmethod
    def of(cls, arguments: Sequence[str]) -> "Grid":
        """Return the grid of `key=value` arguments. A later argument replaces an earlier one with the same key.

        Raises InputError for an argument of another form, and for a missing or repeated value.

        >>> Grid.of(["penalty.coef=0.5,2.5", "sac.hidden_sizes=[256,256]"]).alternatives
        {'penalty.coef': ('0.5', '2.5'), 'sac.hidden_sizes': ('[256,256]',)}
        """
        problems, found = [], {}
        for argument in arguments:
            key, equals, text = argument.partition("=")
            if not equals or argument.startswith("-"):
                problems.append(f"{argument}: write key=value, or key=value,value for several")
                continue
            values = tuple(alternatives(key, text))
            if len(values) > 1 and "" in values:
                problems.append(f"{argument}: a value is missing beside a comma; null stands for none")
            if len(set(values)) < len(values):
                problems.append(f"{argument}: a value is given twice")
            found[key] = values
        if problems:
            raise InputError(problems)
        return cls(found)

    @property
    def varied(self) -> list[str]:
        """Keys with more than one value."""
        return [key for key, values in self.alternatives.items() if len(values) > 1]

    def combinations(self) -> Iterator[dict[str, str]]:
        """Yield each combination of the values as a dict. The last key varies fastest.

        >>> [one["seed"] for one in Grid.of(["penalty.coef=1,2", "seed=0,1"]).combinations()]
        ['0', '1', '0', '1']
        """
        for values in itertools.product(*self.alternatives.values()):
            yield dict(zip(self.alternatives, values, strict=True))


def alternatives(key: str, text: str) -> list[str]:
    """Return the values of one key, which are separated by commas outside brackets and quotes.

    A list in brackets means several values of a key that takes one value, and one value of a key that takes a list.

    >>> alternatives("rollout.horizon", "[5, 20]"), alternatives("sac.hidden_sizes", "[64],[256,256]")
    (['5', '20'], ['[64]', '[256,256]'])
    """
    if key.partition(".")[0] == "logger" or (key == "dataset" and Path(text).expanduser().exists()):
        return [text]
    values = split(text)
    takes_one = key in single_value_keys() or key in GROUPS
    if takes_one and len(values) == 1 and text.startswith("[") and text.endswith("]"):
        values = split(text[1:-1])
    return values


def split(text: str) -> list[str]:
    """Split a text at commas outside brackets and quotes; return the parts without surrounding spaces.

    >>> split("[1, 2], 'a,b', {c: [3, 4]}")
    ['[1, 2]', "'a,b'", '{c: [3, 4]}']
    """
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in QUOTES:
            quote = character
        elif character in OPEN:
            depth += 1
        elif character in CLOSE:
            depth -= 1
        if character == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def folder_name(combination: Mapping[str, str], varied: Sequence[str]) -> str:
    """Return the name of a run's folder, made of the varied keys and the seed. Different values give different names.

    >>> folder_name({"penalty.coef": "0.5", "sac.hidden_sizes": "[64,64]", "seed": "3"}, ["penalty.coef"])
    'coef-0.5_s3'
    """
    ends = [key.rpartition(".")[2] for key in varied]
    short = {key: key if ends.count(end) > 1 else end for key, end in zip(varied, ends, strict=True)}
    parts = [f"{short[key]}-{_in_a_name(combination[key])}" for key in varied if key != "seed"]
    return "_".join([*parts, f"s{_in_a_name(combination.get('seed', '0'))}"])


def _in_a_name(value: str) -> str:
    """Return the value if it is valid in a file name, else its valid characters and a few digits of its hash."""
    kept = re.sub(r"[^A-Za-z0-9._+-]+", "-", value)[:LONGEST].strip("-.")
    return kept if kept == value else f"{kept}-{hashlib.sha256(value.encode()).hexdigest()[:6]}".lstrip("-")
