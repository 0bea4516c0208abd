"""Card of a policy, following the model cards of Mitchell et al. 2019 and of the Hugging Face hub: `card.json`, and its Markdown text."""

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

NOT_FOR = (
    "Systems other than the one that the log was recorded on, or that system after it was changed.",
    "States beyond the ranges below: the log does not show what happens there.",
    "Acting unwatched where a wrong action can hurt people or break things.",
)
"""Uses that are excluded for every policy that was learned from a log."""


def not_for(card: Mapping[str, Any]) -> list[str]:
    """Return the uses that are excluded for this policy, the most serious first."""
    found = []
    health, scored, estimates = card["health"], card["result"].get("final_return"), card["estimates"]
    if health is not None and health["level"] == "STOP":
        found.append("Any use: the check of its training says STOP.")
    if estimates is not None and estimates["says"] == "do not deploy":
        found.append("Any use: the estimates of its return say not to deploy it.")
    if scored is not None and not isfinite(scored):
        found.append("Any use: its return in the environment is no finite number.")
    if scored is None and estimates is None:
        found.append("Any use without a trial of its own: nothing says what it earns.")
    if scored is not None and scored < card["log"]["mean_return"]:
        found.append("Replacing what recorded the log: it earned less than the log's episodes.")
    return [*found, *NOT_FOR]


def as_markdown(card: Mapping[str, Any]) -> str:
    """Return the text of `README.md` for the policy's folder, with the metadata header that the hub reads."""
    log, training, result = card["log"], card["training"], card["result"]
    head = [
        "---",
        *_licence(card["licence_id"], card["licence"]),
        "library_name: mopo_pl",
        "tags:",
        "- offline-reinforcement-learning",
    ]
    head += ["- reinforcement-learning", "- mopo", "---"]
    lines = [
        *head,
        f"# A policy for {log['env_id'] or log['name']}",
        "",
        f"Learned from a log by {card['trained_by']} ({training['algorithm']}), without trying anything out. Licence: {card['licence']}.",
        "",
        "## What it must not be used for",
        "",
        *(f"- {text}" for text in card["not_for"]),
        "",
        "## Verdict and evidence",
        "",
        *(f"- {text}" for text in _evidence(card)),
        "",
        "## What it was trained on",
        "",
        f"- Log: `{log['name']}`, SHA-256 `{log['hash']}`"
        + (f", environment `{log['env_id']}`" if log["env_id"] else ""),
        f"- {log['rows']} transitions in {log['episodes']} episodes, mean return {log['mean_return']:.4g}",
        f"- {result['updates']} updates, seed {result['seed']}, run `{card['run']}`, commit `{result['git_commit']}`",
        *(f"- {finding['level']} {finding['name']}: {finding['text']}" for finding in log["findings"]),
        "",
        "## What it reads",
        "",
        _table(card["observations"], bounds=False),
        "",
        f"A state holds the last {card['history']} observations."
        if card["history"] > 1
        else "One observation at a time.",
        "",
        "## What it commands",
        "",
        _table(card["actions"], bounds=True),
        "",
        "## How to run it",
        "",
        "```python",
        "from mopo_pl import Policy",
        "",
        f'policy = Policy.load("{card["address"]}")',
        "action = policy(observation)  # [D] or [B, D], in the units above",
        "```",
    ]
    return "\n".join(lines) + "\n"


def _licence(known_as: str, name: str) -> list[str]:
    """Return the header lines for a licence. A text that cannot be a licence id of the hub becomes `other` with `license_name`, as the hub requires.

    >>> _licence("mit", "MIT"), _licence("ours: all", "Ours: all")
    (['license: mit'], ['license: other', 'license_name: "Ours: all"'])
    """
    if re.fullmatch(r"[a-z][a-z0-9.+-]*", known_as) and known_as not in (
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
        "null",
    ):
        return [f"license: {known_as}"]
    return ["license: other", f"license_name: {json.dumps(name, ensure_ascii=False)}"]


def _evidence(card: Mapping[str, Any]) -> list[str]:
    result, health, estimates = card["result"], card["health"], card["estimates"]
    scored, spread = result.get("final_return"), result.get("final_return_std")
    lines = [
        "Return in the environment: not measured."
        if scored is None or spread is None
        else f"Return in the environment: {scored:.4g} ± {spread:.4g} over {result['final_episodes']} episodes; "
        f"the log's {card['log']['mean_return']:.4g}."
    ]
    lines.append("Check of the training: not made." if health is None else f"Check of the training: {health['level']}.")
    lines += [
        f"{entry['level']} {entry['name']}: {entry['text']}" for entry in (health or {"findings": []})["findings"]
    ]
    lines.append(
        "Estimates without an environment: not made." if estimates is None else f"Estimates: {estimates['sentence']}."
    )
    return lines + [f"{reason['name']}: {reason['text']}" for reason in (estimates or {}).get("reasons", [])]


def _table(signals: Mapping[str, Any], *, bounds: bool) -> str:
    """Return a Markdown table with one row for each column: name, unit, range in the log, and for actions the bounds."""
    columns = ["name", "unit", "range in the log", *(["bounds"] if bounds else [])]
    rows = [columns, ["---"] * len(columns)]
    for i, name in enumerate(signals["names"]):
        seen = "unknown" if signals["low"] is None else f"{signals['low'][i]:.4g} to {signals['high'][i]:.4g}"
        row = [name.replace("|", "\\|"), signals["units"][i] or "not stated", seen]
        rows.append([*row, f"{signals['bound_low'][i]:.4g} to {signals['bound_high'][i]:.4g}"] if bounds else row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
