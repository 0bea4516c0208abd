"""Section of the report that compares the policy with the log."""

from mopo_pl.data.readers.names import shown
from mopo_pl.report import figures
from mopo_pl.report.run.measured.policy import MeasuredPolicy
from mopo_pl.report.run.sections.layout import LONGEST, Figure, Section, Table, first_of, number, share

SMALL_MULTIPLES = 8
"""Largest number of action columns that have a figure; the table contains all."""


def policy_section(found: MeasuredPolicy) -> Section:
    """Return the section on the policy's actions compared with logged ones, their uncertainty, and the states they lead to in the model."""
    drawn = [
        Figure(
            f"action{i}",
            shown(column.name, LONGEST),
            figures.actions(f"action{i}", column),
            "Grey: what was done in the log; line: what the policy does on the same states. A line where there is no grey is an "
            "action without data."
            if i == 0
            else "Read as the first.",
        )
        for i, column in enumerate(found.actions[:SMALL_MULTIPLES])
    ]
    table = Table(
        "Actions",
        ("column", "median, log", "median, policy", "mean distance", "at a bound, log", "at a bound, policy"),
        [
            (
                shown(column.name, LONGEST),
                number(column.logged[2]),
                number(column.chosen[2]),
                number(column.distance),
                share(column.logged_pinned),
                share(column.chosen_pinned),
            )
            for column in found.actions
        ],
        "Distances are in half an action's range. A policy that is pinned to its bounds where the log is not often exploits "
        "an error of the model.",
    )
    sentences = [
        f"On {found.rows} states of the log, the policy's action differs from the logged action by {number(found.distance)} on "
        f"average; the log's mean action, taken in every state, would differ by {number(found.spread)}. Both are Euclidean "
        "distances between actions scaled to [-1, 1]."
    ]
    tables = [table]
    if found.uncertainty is not None:
        there = found.uncertainty
        sentences.append(
            f"The model's uncertainty u is on average {there.ratio:.2f} times as large for the policy's actions as for the logged "
            f"ones. On {share(there.beyond)} of the states it is above the 95 % quantile of the log; 5 % would be no more than "
            "the log's own."
            if there.ratio is not None
            else "The run's penalty u is 0 on the log."
        )
        drawn.append(
            Figure(
                "uncertainty",
                "Uncertainty of the policy's actions",
                figures.uncertainty("uncertainty", there),
                "Thin lines reach from the 5 % to the 95 % quantile, thick ones from 25 to 75 %, dots are medians; the further "
                "the policy lies to the right of the log, the less the model's word counts.",
            )
        )
    if found.visited is not None and found.visited.columns:
        seen = found.visited
        drawn.append(
            Figure(
                "states",
                "States that the policy visits in the model",
                figures.states("states", seen),
                f"{seen.steps} states of {seen.starts} imagined rollouts of {seen.horizon} steps (coloured) beside the log "
                "(grey), read as the figure before; 0 is the log's median."
                + first_of(len(seen.columns), figures.MOST_COLUMNS),
            )
        )
        tables.append(
            Table(
                "States in the model",
                ("column", "5 to 95 %, log", "5 to 95 %, model", "outside the log"),
                [
                    (
                        shown(column.name, LONGEST),
                        f"{number(column.logged[0])} to {number(column.logged[4])}",
                        f"{number(column.imagined[0])} to {number(column.imagined[4])}",
                        share(column.outside),
                    )
                    for column in seen.columns
                ],
                "The last column counts imagined states beyond 99 % of the log: about 1 % where the policy stays within it.",
            )
        )
    return Section("The policy beside the log", sentences, drawn, tables)
