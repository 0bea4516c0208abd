"""Read `result.json`, `estimates.json` and other records of a run, which may be damaged or come from someone else."""

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mopo_pl.config.compose import config_from_file
from mopo_pl.errors import InputError
from mopo_pl.storage.atomic_write import sha256_of
from mopo_pl.storage.stored_json import METRICS_LARGEST, loads, read_json, read_text

RESULT, ESTIMATES = "result.json", "estimates.json"
VIDEO = "video.webp"
"""Name of the video that `python -m mopo_pl video` writes and the report shows."""
REPORT = "report.html"
"""Name of the page that is written by `python -m mopo_pl report` and by a run at its end."""
Check = Callable[[Any], bool]
"""A function that returns whether a value has the type that a run writes."""


def ensemble_folder(run: Path) -> Path:
    """Return the folder with the ensemble of a run, with links resolved.

    It is the folder of the run, or else that of the run which `dynamics_from` names, and so on. If none of them contains an ensemble, the
    last named folder is returned.
    """
    seen = []
    while not (run / "dynamics.json").exists() and (run / "config.yaml").exists() and run not in seen:
        seen.append(run)
        source = config_from_file(run / "config.yaml").dynamics_from
        run = run if source is None else Path(source)
    return run.resolve()


def read_result(run: Path) -> dict[str, Any] | None:
    """Return the result of a run; None if the run is not finished. Raises InputError if the file is damaged."""
    return _read(run / RESULT, _OF_A_RESULT, required=("behaviour_return", "updates", "seconds", "dataset"))


def read_estimates(run: Path) -> dict[str, Any] | None:
    """Return the estimates in a run folder; None if there are none. Raises InputError if the file is damaged."""
    return _read(run / ESTIMATES, _OF_ESTIMATES, required=())


def policy_checksum(run: Path) -> str | None:
    """Return the SHA-256 of the weights of a run's policy, which the estimates contain; None if the file cannot be read."""
    return sha256_of(run / "policy" / "policy.safetensors")


def is_of_this_policy(run: Path, estimates: Mapping[str, Any]) -> bool:
    """Return whether estimates belong to the policy in the run's folder.

    Estimates of earlier versions hold no SHA-256 of the policy. For them the result is True.
    """
    return estimates.get("policy_sha256") in (None, policy_checksum(run))


def another_policy(run: Path) -> str:
    """Return the message that the estimates of a run belong to another policy."""
    again = shlex.join(["python", "-m", "mopo_pl", "estimate", str(run)])
    return f"{run / ESTIMATES} is of another policy than {run / 'policy'}: {again} estimates this one"


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the JSON object in another file of a run; None if there is no such file. Raises InputError if it is damaged."""
    return _read(path, {}, required=())


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of `metrics.jsonl`; none if there is no such file.

    Damaged lines are left out, because a killed run may have written only a part of its last line. Raises InputError if the file cannot be
    read.
    """
    try:
        lines = read_text(path, METRICS_LARGEST).splitlines()
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    for line in lines:
        try:
            yield loads(line)
        except ValueError:
            continue


def _read(path: Path, checks: Mapping[str, Check], *, required: tuple[str, ...]) -> dict[str, Any] | None:
    try:
        found = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    missing = [key for key in required if key not in found]
    wrong = [key for key, holds in checks.items() if key in found and not holds(found[key])]
    if missing or wrong:
        said = [f"{key} is missing" for key in missing] + [f"{key} is of a wrong type" for key in wrong]
        raise _damaged(path, ", ".join(said))
    return found


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path} is damaged ({why}): restore it from a copy, or remove it")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number_or_none(value: Any) -> bool:
    return value is None or _number(value)


def _text(value: Any) -> bool:
    # File names and lines of text cannot contain NUL.
    return isinstance(value, str) and "\0" not in value


def _map_of(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _map_with(**checks: Check) -> Check:
    return lambda value: (
        isinstance(value, dict) and all(key in value and holds(value[key]) for key, holds in checks.items())
    )


_FINDING = _map_with(level=lambda value: value in ("OK", "WARN", "STOP"), name=_text, text=_text, fix=_text)
_OF_A_RESULT: dict[str, Check] = {
    **dict.fromkeys(("behaviour_return", "updates"), _number),
    **dict.fromkeys(
        ("final_return", "final_return_std", "last10_return", "final_score", "last10_score"), _number_or_none
    ),
    "final_returns": _list_of(_number_or_none),
    "final_episodes": _number,
    "seconds": _map_of(_number_or_none),
    "versions": _map_of(_text),
    "dataset": _map_with(name=_text, hash=_text),
    "env_id": lambda value: value is None or _text(value),
    "seed": lambda value: type(value) is int,
    "health": _map_with(level=lambda value: value in ("OK", "WARN", "STOP"), findings=_list_of(_FINDING)),
}
_OF_ESTIMATES: dict[str, Check] = {
    "policy_sha256": lambda value: value is None or _text(value),
    "verdict": _map_with(
        says=_text,
        certified=lambda value: isinstance(value, bool),
        sentence=_text,
        reasons=_list_of(_map_with(name=_text, says=_text, text=_text)),
    ),
}
