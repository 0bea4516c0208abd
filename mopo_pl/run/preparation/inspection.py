"""`python -m mopo_pl inspect`: a log and its checks as text or JSON, and as a page."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mopo_pl.config.compose import compose
from mopo_pl.config.schema import Config
from mopo_pl.data.doctor.report import as_json, as_text, describe
from mopo_pl.data.findings import Level, worst
from mopo_pl.errors import InputError
from mopo_pl.report.log.contents import contents_of
from mopo_pl.report.log.page import LogPage, write_log_page
from mopo_pl.run.preparation.inputs import UNITS_CHECK, Examined, examine_inputs

SUFFIXES = (".html", ".htm")
"""What the name of a page ends in, so that no log is overwritten by a mistyped command."""


def inspect(dataset: str, settings: Sequence[str], *, as_json_text: bool, page: Path | None) -> tuple[str, Level]:
    """The text to print, and the worst level of the checks.

    Args:
        dataset: As `dataset=` of a training.
        settings: Further keys of the configuration, as `key=value`.
        as_json_text: Whether the text is one JSON object.
        page: Where the page with figures is written; None: nowhere.

    Raises InputError where the log cannot be read, for wrong settings, and for a page of another suffix or in a folder
    that is not there; Unwritable where the page cannot be written.

    """
    page = None if page is None else page.expanduser()
    if page is not None:
        _refuse_page(page)
    config = compose([f"dataset={dataset}", *settings])
    log = examine_inputs(config, without_rule="WARN")
    if page is not None:
        write_log_page(_page(config, settings, log), page)
    if as_json_text:
        return as_json(config.dataset, log.dataset, log.findings), worst(log.findings)
    written = "" if page is None else f"\n\npage      {page}"
    return as_text(log.dataset, log.findings, _units(config, log)) + written, worst(log.findings)


def _units(config: Config, log: Examined) -> Mapping[str, str]:
    """Those of the configuration; none where one names no column, which is a finding."""
    return {} if any(finding.name == UNITS_CHECK for finding in log.findings) else config.data.units


def _refuse_page(page: Path) -> None:
    """Raise InputError for a place where no page can be written."""
    if page.is_dir():
        raise InputError(f"--html {page} is a folder: give a file, as in --html {page / 'log.html'}")
    if page.suffix.lower() not in SUFFIXES:
        raise InputError(f"--html {page} must end in .html, as in --html {page.with_suffix('.html').name}")
    if not page.parent.is_dir():
        raise InputError(f"--html {page}: there is no folder {page.parent}; make it first, or give another")


def _page(config: Config, settings: Sequence[str], log: Examined) -> LogPage:
    units = _units(config, log)
    dataset = log.dataset
    return LogPage(
        dataset=config.dataset,
        settings=settings,
        description="" if dataset is None else describe(dataset, units),
        digest="" if dataset is None else dataset.hash,
        contents=None if dataset is None else contents_of(dataset, units),
        findings=log.findings,
    )
