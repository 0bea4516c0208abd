"""Page about a log: findings of the checks, parts that were left out, columns, histograms, episodes and coverage."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mopo_pl.data.findings import LEVELS, Finding, Level, worst
from mopo_pl.data.log.action_bounds import NAME as BEYOND_BOUNDS
from mopo_pl.data.readers.names import shown
from mopo_pl.pages.templates import filled
from mopo_pl.report.log import figures
from mopo_pl.report.log.contents import Column, LogContents
from mopo_pl.report.run.sections.layout import LONGEST, Figure, first_of, number, share
from mopo_pl.storage.atomic_write import atomic_write

TEMPLATE = "log/page.html.j2"
MOST_COLUMNS = 20
"""Largest number of columns that have a histogram, which are the first ones; the table contains all."""
LEFT_OUT = ("reading", "unused-arrays")
"""Checks whose findings are about parts of the file that are not used, or that were moved."""
HEADS = ("column", "unit", "least", "mean", "greatest", "std", "unchanged")
"""Headings of the table of columns."""


@dataclass(frozen=True)
class Group:
    """Small figures of one kind, with an explanation of how to read each of them."""

    name: str
    title: str
    svgs: Sequence[str]
    how: str


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """Contents of the page about a log."""

    dataset: str
    """Name or path of the log as the user gave it."""
    settings: Sequence[str]
    """Settings that were given with it, as `key=value`."""
    description: str
    """Description that `inspect` prints; empty where the arrays cannot be packed."""
    digest: str
    """Hash of the log; empty where the arrays cannot be packed."""
    contents: LogContents | None
    """Measured contents; None where the arrays cannot be packed."""
    findings: Sequence[Finding]

    @property
    def level(self) -> Level:
        """Return the worst level of the findings."""
        return worst(self.findings)

    @property
    def verdict(self) -> str:
        """Return one sentence about whether the log is fit for training.

        >>> found = [Finding("STOP", "arrays", "…"), Finding("WARN", "rewards", "…"), Finding("OK", "reading", "")]
        >>> LogPage(dataset="log.npz", settings=(), description="", digest="", contents=None, findings=found).verdict
        'Do not train on this log yet: 1 check says STOP, 1 says WARN.'
        """
        stops, warns = (sum(finding.level == level for finding in self.findings) for level in ("STOP", "WARN"))
        if stops:
            warned = f", {warns} {'says' if warns == 1 else 'say'} WARN" if warns else ""
            return f"Do not train on this log yet: {stops} check{' says' if stops == 1 else 's say'} STOP{warned}."
        if warns:
            return f"This log can be trained on. Read {'the warning' if warns == 1 else f'the {warns} warnings'} first."
        return "This log can be trained on: no check found anything."

    @property
    def found(self) -> list[Finding]:
        """Return the findings of level STOP and WARN, the worst first, without those about left-out parts."""
        return self._worst_first(within=False)

    @property
    def left_out(self) -> list[Finding]:
        """Return the findings of level STOP and WARN about parts of the file that are not used, the worst first."""
        return self._worst_first(within=True)

    def _worst_first(self, *, within: bool) -> list[Finding]:
        found = [each for each in self.findings if each.level != "OK" and (each.name in LEFT_OUT) is within]
        return sorted(found, key=lambda finding: -LEVELS.index(finding.level))

    @property
    def passed(self) -> list[str]:
        """Return the names of the checks that found nothing."""
        return [finding.name for finding in self.findings if finding.level == "OK"]

    @property
    def next_command(self) -> str:
        """Return the command to run next; empty where the log must be repaired first."""
        given = [f"dataset={self.dataset}", *self.settings, "--dry-run"]
        return "" if self.level == "STOP" else shlex.join(["python", "train.py", *given])


def write_log_page(page: LogPage, path: Path) -> None:
    """Write the page. Raises Unwritable where that cannot be done."""
    text = render(page)
    with atomic_write(path) as aside:
        aside.write_text(text, encoding="utf-8")


def render(page: LogPage) -> str:
    """Return the page as self-contained HTML. All text from files is escaped."""
    contents = page.contents
    return filled(
        "mopo_pl.report",
        TEMPLATE,
        page=page,
        cards=[] if contents is None else list(_cards(contents)),
        unknown_next="" if contents is None else _unknown_next(contents),
        heads=HEADS,
        columns=[] if contents is None else [_row(column) for column in contents.columns],
        groups=[]
        if contents is None
        else list(_groups(contents, clipped=any(each.name == BEYOND_BOUNDS for each in page.found))),
        figures=[] if contents is None else list(_figures(contents)),
    )


def _cards(contents: LogContents) -> Iterator[tuple[str, str]]:
    yield "rows", _grouped(contents.rows)
    yield "episodes", _grouped(contents.episodes)
    yield "terminal rows", _grouped(contents.terminals)
    yield "mean return", number(contents.mean_return, 4)
    for kind in ("observation", "action"):
        yield f"{kind} columns", str(sum(column.kind == kind for column in contents.columns))


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _unknown_next(contents: LogContents) -> str:
    """Return the sentence about rows without a known next state; empty where there are none."""
    if not contents.unknown_next:
        return ""
    return (
        f"The next state of {_grouped(contents.unknown_next)} rows ({share(contents.unknown_next / contents.rows)}) is not known, as "
        "nothing follows them in their episode: the model does not learn from them, the policy only where they are terminal."
    )


def _row(column: Column) -> list[str]:
    values = (column.least, column.mean, column.greatest, column.std)
    return [
        shown(column.name, LONGEST),
        shown(column.unit, 12),
        *(number(each, 4) for each in values),
        share(column.unchanged),
    ]


def _groups(contents: LogContents, *, clipped: bool) -> Iterator[Group]:
    for kind, title, how in (
        (
            "observation",
            "Observations",
            "How often each value was logged, from the least to the greatest: a lone bar beside a long empty stretch is an outlier, "
            "a tall one at an end a sensor at its limit.",
        ),
        (
            "action",
            "Actions",
            "How often each action was taken, with its bounds dashed: a policy can only learn what was tried, and bounds far from all "
            "bars are probably not the true ones.",
        ),
    ):
        columns = [column for column in contents.columns if column.kind == kind]
        note = " Actions beyond the bounds are counted at them." if kind == "action" and clipped else ""
        note += first_of(len(columns), MOST_COLUMNS)
        drawn = [
            figures.column.under(f"{kind}s", f"{kind}{i}", column) for i, column in enumerate(columns[:MOST_COLUMNS])
        ]
        yield Group(f"{kind}s", title, drawn, how + note)


def _figures(contents: LogContents) -> Iterator[Figure]:
    yield Figure(
        "returns",
        "Returns of episodes",
        figures.histogram("returns", contents.returns, "sum of an episode's rewards"),
        "The policy is to beat what stands on the left and to reach what stands on the right; pieces of an episode that was cut "
        "by missing rows count as episodes.",
    )
    yield Figure(
        "lengths",
        "Lengths of episodes",
        figures.histogram("lengths", contents.lengths, "rows of an episode"),
        "A tall bar at the right is a time limit; many short episodes, where you expect long ones, mean that ends are marked or rows are "
        "missing within them.",
    )
    if contents.coverage is not None:
        yield Figure(
            "coverage",
            "Where the log has been",
            figures.coverage("coverage", contents.coverage),
            " ".join(
                [
                    "A square is a range of states that was visited, the stronger the more often: of empty places the model knows "
                    "nothing, and a policy must not be trusted there.",
                    *contents.coverage.consists_of,
                ]
            ),
        )
