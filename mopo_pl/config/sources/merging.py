"""Merge layers of settings key by key, so that every wrong key and value is reported."""

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any

import yaml
from omegaconf import Container, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mopo_pl.config.foreign import UNFILLED
from mopo_pl.config.keys import (
    accepts_any_value,
    is_within,
    known_keys,
    lies_in_open_map,
    sections,
    single_value_keys,
    suggestion_for,
    text_keys,
)
from mopo_pl.config.schema import Config
from mopo_pl.config.sources.choices import GROUPS

OTHER_FLAGS = {
    "trainer.gradient_clip_val": "Lightning refuses it with manual optimisation; use sac.gradient_clip_norm",
    "trainer.gradient_clip_algorithm": "Lightning refuses it with manual optimisation; use sac.gradient_clip_norm",
    "trainer.accumulate_grad_batches": "Lightning refuses it with manual optimisation; use sac.batch_size",
    "trainer.max_steps": "a run ends with an epoch; use trainer.max_epochs and sac.updates_per_epoch",
    "trainer.limit_val_batches": "the holdout is a single batch; use dynamics.holdout_max",
    "trainer.callbacks": "use callbacks=[module:Class]",
    "trainer.logger": "use logger=",
}
"""Flags of Lightning's Trainer that are not configuration keys, each with a hint on what to use instead."""
UNITS = "data.units."
"""Prefix of the keys that set the unit of a column."""
NULLS = ("", "null", "Null", "NULL", "~")
"""Texts that mean null."""


@dataclasses.dataclass
class Layer:
    """Values to merge, and their source, which messages name."""

    source: str
    values: DictConfig


def opened(config: Config | type[Config] = Config) -> DictConfig:
    """Return the configuration as a DictConfig that can be changed. OmegaConf marks frozen dataclasses as read-only."""
    opened: DictConfig = OmegaConf.structured(config)
    for node in (opened, *(OmegaConf.select(opened, section) for section in sections())):
        OmegaConf.set_readonly(node, False)
    return opened


def merged(config: DictConfig, layer: Layer, problems: list[str]) -> DictConfig:
    """Merge a layer into `config` key by key, and return `config`. Append one message per wrong key or value to `problems`."""
    for key, value in _leaves(layer.values):
        _set(config, key, value, f"{layer.source}: {key}", problems)
    return config


def _leaves(values: DictConfig, prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key in values:
        value = values[key]
        path = f"{prefix}{key}"
        if isinstance(value, DictConfig) and not accepts_any_value(path):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def overridden(config: DictConfig, pairs: list[tuple[str, str]], problems: list[str]) -> DictConfig:
    """Set the keys of the command line's pairs in `config`, and return it. Append one message per mistake to `problems`.

    Keys of groups are skipped, because they are set already.
    """
    for key, text in pairs:
        if key in GROUPS:
            continue
        if "${" in text or text == "???":
            problems.append(f"{key}={text}: {UNFILLED}")
            continue
        try:
            value = _as_typed(text, is_text=key in text_keys())
        except (ValueError, yaml.YAMLError, OmegaConfBaseException, RecursionError) as error:
            problems.append(
                f"{key}={text}: the value is not valid YAML ({(str(error).splitlines() or ['?'])[0]}); quote names that hold [ ] {{ }} : or a comma"
            )
            continue
        if (isinstance(value, DictConfig | ListConfig) and unfilled(value) is not None) or value == "???":
            problems.append(f"{key}={text}: {UNFILLED}")
            continue
        joined = _joined_pairs(value) if not is_within(key, ("logger",)) else None
        if joined is not None:
            problems.append(f"{key}={text}: {joined} is one name without a value; write a blank after the colon")
            continue
        _set(config, key, value, f"{key}={text}", problems)
    return config


def _as_typed(text: str, *, is_text: bool) -> Any:
    """Return the value of a typed text: parsed as YAML if it is a number, a list, a map or quoted, else the text unchanged.

    YAML would cut a text at ` #`, and read `&a` and `!a` as an anchor and a tag. `is_text`: whether the key takes a text, so that
    values such as `10:00:00` and `1_000` are not read as numbers.

    >>> [_as_typed(text, is_text=False) for text in ("out #1", "&x", "'a b'", "[1, 2]", "1e3", "null")]
    ['out #1', '&x', 'a b', [1, 2], 1000.0, None]
    >>> [_as_typed(text, is_text=True) for text in ("1_000", "{a}", "a: b", "~")]
    ['1_000', '{a}', 'a: b', None]
    """
    if text in NULLS:
        return None
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if is_text and not quoted:
        return text
    if not quoted and text[0] in "&*!#%@`|>":
        return text
    value = OmegaConf.create(f"value: {text}").value if not is_text or quoted else text
    return text if value is None or (isinstance(value, str) and not quoted) else value


def _joined_pairs(value: Any) -> str | None:
    """Return the name `a:1` of a map such as {a:1}, which YAML reads as a name without a value; None if there is no such name."""
    if isinstance(value, DictConfig):
        for name in value:
            if value._get_node(name) is not None and value[name] is None and ":" in str(name):
                return str(name)
    return None


def unfilled(values: DictConfig | ListConfig) -> str | None:
    """Return the key of an unresolved `???` or `${…}`, or the name of the error that resolving raises; None if all is resolved."""
    try:
        OmegaConf.resolve(values)
    except OmegaConfBaseException as error:
        return str(error.full_key)
    except (ValueError, RecursionError) as error:
        return type(error).__name__
    return min(OmegaConf.missing_keys(values), default=None)


def _set(config: DictConfig, key: str, value: Any, where: str, problems: list[str]) -> None:
    known = known_keys()
    if key in OTHER_FLAGS:
        problems.append(f"{where}: {OTHER_FLAGS[key]}")
    elif key not in known and not lies_in_open_map(key):
        problems.append(
            f"{where}: there is no such key{suggestion_for(key, known)}"
            if _meant_close(key)
            else f"{where}: there is no such key; --help lists all"
        )
    elif key in sections():
        problems.append(
            f"{where}: {key} is a section: set one of its keys, such as {key}.{dataclasses.fields(sections()[key])[0].name}=…"
        )
    elif (
        isinstance(value, ListConfig)
        and not accepts_any_value(key)
        and any(isinstance(entry, Container) for entry in value)
    ):
        problems.append(f"{where}: its entries must be plain values, not lists or maps")
    else:
        # YAML parses true as a boolean; `compile` takes the words true and false.
        value = str(value).lower() if key == "compile" and isinstance(value, bool) else value
        if isinstance(value, Container):
            value = OmegaConf.create(_with_text_keys(OmegaConf.to_container(value)))
        try:
            if key.startswith(UNITS):  # a column name such as "Temp [°C]" is not a dotted path
                OmegaConf.select(config, UNITS.rstrip("."))[key.removeprefix(UNITS)] = value
            else:
                OmegaConf.update(config, key, value, merge=False, force_add=lies_in_open_map(key))
        except (OmegaConfBaseException, ValueError, OverflowError) as error:
            problems.append(f"{where}: {_refusal(key, value, str(error).splitlines()[0])}")


def _with_text_keys(value: Any) -> Any:
    """Return the value with all map keys as strings: JSON has no other keys, and {0: …} names the same column as {"0": …}.

    >>> _with_text_keys({0: [{1: 2}]})
    {'0': [{'1': 2}]}
    """
    if isinstance(value, dict):
        return {str(key): _with_text_keys(each) for key, each in value.items()}
    return [_with_text_keys(each) for each in value] if isinstance(value, list) else value


def _refusal(key: str, value: Any, reason: str) -> str:
    """Return why a value is refused. `reason` is replaced by a hint if a list is given for a single value, or the reverse."""
    if "is not Optional" in reason:
        return "it is empty; give a value"
    if "is not a ListConfig" in reason:
        return f"it takes a list, such as [{value}]"
    if key in single_value_keys() and (isinstance(value, ListConfig) or "," in str(value)):
        return "it takes one value; python -m mopo_pl sweep takes several, and trains a run for each"
    return reason


def _meant_close(key: str) -> bool:
    return bool(difflib.get_close_matches(key, known_keys(), 1))
