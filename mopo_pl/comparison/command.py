"""`python -m mopo_pl compare`: reads runs and writes the pages."""

import json
from collections.abc import Sequence
from pathlib import Path

from mopo_pl.comparison.figure import draw, png, svg
from mopo_pl.comparison.final_returns import returns_files
from mopo_pl.comparison.finished_run import find
from mopo_pl.comparison.page import Comparison, as_json, csv_text, html, markdown
from mopo_pl.storage.atomic_write import atomic_write, make_target, refuse_unwritable


def compare(paths: Sequence[Path], out: Path | None, *, as_json_text: bool) -> str:
    """Write `compare.md`, `.csv`, `.png`, `.html` and `final_returns/`; returns the text to print, which is the Markdown or one JSON object.

    `out` is the target folder. None selects the folder of the sweep where a single one is given, else `comparison`. Raises InputError
    where there is no run to compare, or the folder cannot be written; Unwritable where a page cannot be written.
    """
    found = find(paths)
    folder = (out or found.sweep or Path("comparison")).expanduser()
    refuse_unwritable(folder, "--out")
    refuse_unwritable(folder / "final_returns", "--out")
    comparison = Comparison.of(found)
    figure = draw(comparison.blocks)
    pages = {
        "compare.md": markdown(comparison).encode(),
        "compare.csv": csv_text(comparison).encode(),
        "compare.html": html(comparison, svg(figure)).encode(),
        "compare.png": png(figure),
        **{f"final_returns/{name}": content for name, content in returns_files(found.runs)},
    }
    for name, content in pages.items():
        make_target((folder / name).parent, "--out")
        with atomic_write(folder / name) as aside:
            aside.write_bytes(content)
    if as_json_text:
        return json.dumps(as_json(comparison), indent=2)
    files = f"{sum(name.startswith('final_returns') for name in pages)} files in final_returns"
    return f"{markdown(comparison)}\n{folder}: compare.md, compare.csv, compare.png, compare.html and {files}"
