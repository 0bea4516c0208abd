"""The command `python -m mopo_pl inspect`: describe and check a log, as text, JSON or an HTML page."""

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
"""Allowed suffixes of a page, so that a mistyped command does not overwrite a log."""


def inspect(dataset: str, settings: Sequence[str], *, as_json_text: bool, page: Path | None) -> tuple[str, Level]:
    """Check a log, and return the text to print and the worst level of the checks.

    Args:
        dataset: Value of `dataset=`, as for training.
        settings: Further keys of the configuration, as `key=value`.
        as_json_text: Whether the returned text is a JSON object.
        page: Path of an HTML page with figures to write; None: no page.

    Raises InputError if the log cannot be read, a setting is wrong, or the page has another suffix or lies in a missing folder.
    Raises Unwritable if the page cannot be written.

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
    """Return the units of the configuration; none if a unit names no column, which is reported as a finding."""
    return {} if any(finding.name == UNITS_CHECK for finding in log.findings) else config.data.units


def _refuse_page(page: Path) -> None:
    """Raise InputError for a folder, a wrong suffix, or a file in a missing folder."""
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
