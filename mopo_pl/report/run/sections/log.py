"""Section of the report about the checks of the log."""

from mopo_pl.report.run.overview import RunOverview
from mopo_pl.report.run.sections.layout import Section, Table


def log_section(overview: RunOverview) -> Section:
    """Return the section with the findings of the checks, the worst first."""
    log = overview.log
    findings = Table(
        "Checks",
        ("level", "check", "found", "what to do"),
        [(each["level"], each["name"], each["text"], each["fix"]) for each in log.findings],
    )
    said = f"{len(log.passed)} checks found nothing wrong."
    return Section("The log", [said], tables=[findings] if log.findings else [])
