"""Export the policies of runs in every form, and print how far each form is from its policy.

`python benchmarks/exports.py RUN...`: what `python -m mopo_pl export RUN` compares, as one table; the files are thrown away. Needs
the extra `onnx`, and each run's log. A run that names Python code needs `export` itself, with `trust=true`.
"""

import argparse
import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from mopo_pl.export.forms import FORMS
from mopo_pl.run.finished.exported import export_run


def report_of(run: Path) -> dict[str, Any]:
    """What `export.json` of a run says."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        out = Path(folder)
        export_run(run, forms=None, out=out, distribution=False, licence="not stated", actor=None)
        return json.loads((out / "export.json").read_text())


def row(name: str, report: dict[str, Any]) -> str:
    """A line of the table.

    >>> report = {
    ...     "observations": {"names": ["temp", "flow"], "units": ["K", ""]},
    ...     "actions": {"names": ["valve"], "units": [""]},
    ...     "history": 3,
    ...     "compared_on": {"logged": 5, "random": 7},
    ...     "forms": {"numpy": {"largest_difference": 2e-6}, "torch": {"largest_difference": 0.0}},
    ... }
    >>> row("plant", report)
    '| plant | 2, 1 | 3 | 1 of 3 | 5 + 7 | 2.0e-06 | 0 | left out |'
    """
    units = [unit for kind in ("observations", "actions") for unit in report[kind]["units"]]
    sizes = f"{len(report['observations']['names'])}, {len(report['actions']['names'])}"
    stated = f"{sum(map(bool, units))} of {len(units)}"
    compared = f"{report['compared_on']['logged']} + {report['compared_on']['random']}"
    found = {form: told["largest_difference"] for form, told in report["forms"].items()}
    cells = ["left out" if form not in found else f"{found[form]:.1e}" if found[form] else "0" for form in FORMS]
    return f"| {' | '.join([name, sizes, str(report['history']), stated, compared, *cells])} |"


def main() -> None:
    """Print a table, a line a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders")
    options = parser.parse_args()
    torch.set_num_threads(1)
    forms = [f"`{FORMS[form][1][-1]}`" for form in FORMS]
    print(f"| run | observations, actions | history | units stated | states: log + random | {' | '.join(forms)} |")
    print("|" + "---|" * (5 + len(forms)))
    for run in options.runs:
        print(row(run.name, report_of(run)), flush=True)


if __name__ == "__main__":
    main()
