"""`Service`: a guarded policy that answers JSON texts, and counts the requests."""

import json
import math
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mopo_pl
from mopo_pl.policy import Policy
from mopo_pl.policy.files import folder_of
from mopo_pl.storage.atomic_write import sha256_of

MOST_BYTES = 1_000_000
"""Largest size of a body or a line [bytes]; a larger one is refused before it is parsed as JSON."""


class Service:
    """Service that turns observations in JSON into actions in JSON, one after another.

    A policy with a history, a fallback `last` or a rate limit remembers its last step. It then serves one system, which must send one
    observation for each step and call `reset` before each episode.
    """

    def __init__(self, policy: Policy, place: Path | str) -> None:
        """Serve `policy`, with its guards already set. `place` is the path it was loaded from; `health` reports the SHA-256 of its files."""
        self._policy = policy
        folder = folder_of(place)
        self._files = {name: sha256_of(folder / name) for name in ("policy.safetensors", "policy.json")}
        self._answered, self._refused, self._states = 0, 0, 0
        self._began, self._worked = time.monotonic(), time.process_time()

    def act(self, body: bytes) -> dict[str, Any]:
        """Return the action for an observation, as a list and by name, and the reports of the guards.

        Args:
            body: JSON: a list of D numbers, an object with a number for each column by name, a list of such lists, or an
                object of lists. null marks a missing value; it counts as not finite, as NaN and Infinity do.

        Raises ValueError with an explanation for any other text, and where the guards refuse the observation.

        """
        before = self._policy.invalid
        action = self._policy(_observation(body))
        self._answered += 1
        self._states += math.prod(action.shape[:-1])
        columns = np.moveaxis(action, -1, 0).tolist()
        return {
            "action": action.tolist(),
            "by_name": dict(zip(self._policy.actions.names, columns, strict=True)),
            "guards": {
                "invalid_now": self._policy.invalid - before,
                "outside_now": list(self._policy.outside_now),
                **self._flagged(),
            },
        }

    def reset(self) -> dict[str, Any]:
        """Forget the last step: the next observation is the first of an episode."""
        self._policy.reset()
        return {"reset": True}

    def refuse(self) -> None:
        """Count a request that was refused, here or by the transport."""
        self._refused += 1

    def health(self) -> dict[str, Any]:
        """Return what is served, the versions of the software, and the counts so far."""
        meta, guards = self._policy.meta, self._policy.guards
        return {
            "status": "ok",
            "policy": {"sha256": self._files, "run": meta.get("run"), "history": self._policy.history},
            "observations": list(self._policy.observations.names),
            "actions": list(self._policy.actions.names),
            "on_invalid": guards.on_invalid,
            "versions": {
                "mopo_pl": mopo_pl.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            "seconds": round(time.monotonic() - self._began, 3),
            "cpu_seconds": round(time.process_time() - self._worked, 3),
            "requests": {"answered": self._answered, "refused": self._refused},
            "states": self._states,
            "flagged": self._flagged(),
        }

    def _flagged(self) -> dict[str, Any]:
        return {"invalid": self._policy.invalid, "outside": self._policy.outside}


def _observation(body: bytes) -> Any:
    """Parse an observation from a JSON text, with NaN for null."""
    try:
        said = _without_null(json.loads(body, object_pairs_hook=_columns, parse_int=float))
    except RecursionError as error:
        raise ValueError("this is no observation: its lists are nested too deeply") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"this is no JSON: {error}") from error
    if not isinstance(said, list | dict):
        raise ValueError("an observation is a list of numbers, an object by column, or a batch of either")
    return said


def _columns(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    columns = dict(pairs)
    if len(columns) < len(pairs):
        raise ValueError("an observation given as an object holds each column once; this one repeats a name")
    return columns


def _without_null(said: Any) -> Any:
    if isinstance(said, list):
        return [_without_null(value) for value in said]
    if isinstance(said, dict):
        return {name: _without_null(value) for name, value in said.items()}
    return math.nan if said is None else said
