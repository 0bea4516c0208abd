"""The policy beside the log."""

from mopo_pl.data.readers.names import shown
from mopo_pl.report import figures
from mopo_pl.report.measured.policy import MeasuredPolicy
from mopo_pl.report.sections.layout import LONGEST, Figure, Section, Table, first_of, number, share

SMALL_MULTIPLES = 8
"""Action columns that have a figure; the table holds all."""


def policy_section(found: MeasuredPolicy) -> Section:
    """Actions beside logged ones, their uncertainty, and the states that they lead to in the model."""
    drawn = [
        Figure(
            f"action{i}",
            shown(column.name, LONGEST),
            figures.actions(f"action{i}", column),
            "Grey: what was done in the log; line: what the policy does on the same states. A line where there is no grey is an "
            "action without data.",
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
        f"On {found.rows} logged states the policy's action is {number(found.distance)} away from the logged one; a constant "
        f"action would be {number(found.spread)} away (both in half an action's range)."
    ]
    tables = [table]
    if found.uncertainty is not None:
        there = found.uncertainty
        sentences.append(
            f"The model is {number(there.ratio, 2)} times as uncertain about the policy's actions as about logged ones, and on "
            f"{share(there.beyond)} of the states more uncertain than on 95 % of the log."
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
