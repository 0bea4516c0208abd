"""`RunOverview`: the contents of a run folder and its log, as plain values."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from mopo_pl.config.compose import config_from_file
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.data.doctor.report import as_json, describe
from mopo_pl.data.findings import LEVELS, Finding
from mopo_pl.report.run.measured.model import MeasuredModel, of_model
from mopo_pl.report.run.measured.parts import parts_of
from mopo_pl.report.run.measured.policy import MeasuredPolicy, of_policy
from mopo_pl.report.run.run_files import (
    Curves,
    Trust,
    as_plain,
    changed_keys,
    open_log_of,
    read_curves,
    refuse_changed_log,
)
from mopo_pl.storage.run_records import another_policy, is_of_this_policy, read_estimates, read_record, read_result


@dataclass(frozen=True, kw_only=True)
class LogOverview:
    """The log with the findings of its checks."""

    numbers: dict[str, Any]
    """Rows, episodes, columns and more, as in `inspect --json` under `log`."""
    description: str
    """Description that `inspect` prints."""
    findings: list[dict[str, str]]
    """Findings of level STOP and WARN, the worst first: level, name, text, fix."""
    passed: list[str]
    """Names of the checks that found nothing."""


@dataclass(frozen=True, kw_only=True)
class RunOverview:
    """Everything that the report of a run shows."""

    run: str
    """Folder of the run."""
    dataset: str
    """Name or path of the log as the user gave it."""
    finished: bool
    updates: int
    """Number of updates of the policy so far."""
    planned_updates: int
    notes: list[str]
    """Explanations of what is missing."""
    result: dict[str, Any] | None
    """Contents of `result.json`; None for an unfinished run."""
    health: dict[str, Any] | None
    """Health from `result.json`: level and findings."""
    estimates: dict[str, Any]
    """Contents of `estimates.json` without the verdict: estimates of the policy's return."""
    verdict: Any
    """Verdict from `estimates.json`: whether to deploy the policy."""
    curves: Curves
    log: LogOverview
    model: MeasuredModel | None
    policy: MeasuredPolicy | None
    config: dict[str, Any]
    changed: dict[str, str]
    """Keys that differ from their defaults, with values as typed."""
    versions: dict[str, str]
    seconds: dict[str, float]
    """Duration of each stage, and of making this overview (`report`) [s]."""


def jsonable(value: Any) -> Any:
    """Return the value with dataclasses as maps, and None for numbers that are not finite, which JSON does not have.

    >>> jsonable({"a": (1.0, float("nan"))})
    {'a': [1.0, None]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return jsonable(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def gather(folder: Path, *, dataset: OfflineDataset | None, trust: Trust, place: str | None = None) -> RunOverview:
    """Gather what is known of a run.

    Args:
        folder: Folder of the run.
        dataset: Its log with the findings of its checks; None where the log is still to be opened as the configuration states.
        trust: Code of the configuration that may be imported.
        place: Path of the log, if it was moved.

    Raises InputError where the folder contains no run, a file of it is damaged, or its log is missing or has changed.

    """
    began = time.perf_counter()
    config = config_from_file(folder / "config.yaml")
    result, provenance = read_result(folder), read_record(folder / "provenance.json")
    if dataset is None:
        dataset, findings = open_log_of(folder, config, trust, place)
        refuse_changed_log(folder, dataset, result, provenance)
    else:
        findings = dataset.findings
    notes: list[str] = []
    estimated = read_estimates(folder) or {}
    if not is_of_this_policy(folder, estimated):
        notes.append(another_policy(folder))
        estimated = {}
    curves, updates = read_curves(folder / "metrics.jsonl")
    parts = parts_of(folder, config, dataset, trust, notes)
    model, policy = of_model(parts), of_policy(parts)
    told, plain = result or {}, as_plain(config)
    seconds = {stage: value for stage, value in (told.get("seconds") or {}).items() if value is not None}
    known = {} if provenance is None else {name: provenance[name] for name in ("torch",) if name in provenance}
    return RunOverview(
        run=str(folder),
        dataset=config.dataset,
        finished=result is not None,
        updates=told.get("updates", updates),
        planned_updates=0 if config.stage == "dynamics" else config.trainer.max_epochs * config.sac.updates_per_epoch,
        notes=notes,
        result=result,
        health=told.get("health"),
        estimates={key: value for key, value in estimated.items() if key != "verdict"},
        verdict=estimated.get("verdict"),
        curves=curves,
        log=_of_log(dataset, findings),
        model=model,
        policy=policy,
        config=plain,
        changed=changed_keys(plain),
        versions=told.get("versions") or known,
        seconds={**seconds, "report": time.perf_counter() - began},
    )


def _of_log(dataset: OfflineDataset, findings: Sequence[Finding]) -> LogOverview:
    worst_first = sorted(findings, key=lambda finding: -LEVELS.index(finding.level))
    return LogOverview(
        numbers=json.loads(as_json(dataset.name, dataset, findings))["log"],
        description=describe(dataset),
        findings=[dict(vars(finding)) for finding in worst_first if finding.level != "OK"],
        passed=[finding.name for finding in findings if finding.level == "OK"],
    )
