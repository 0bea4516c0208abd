"""`python -m mopo_pl report`, and the report that a run writes at its end."""

import json
import shlex
import time
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from mopo_pl.config.compose import config_from_file
from mopo_pl.config.foreign import CODE_KEYS, OF_A_FINISHED_RUN, TRUST, is_trusted, texts_of
from mopo_pl.config.keys import is_within
from mopo_pl.data.dataset import OfflineDataset
from mopo_pl.distributed.console import print_once
from mopo_pl.errors import InputError
from mopo_pl.report.logger_figures import show_figures
from mopo_pl.report.run.overview import RunOverview, gather, jsonable
from mopo_pl.report.run.page import render
from mopo_pl.report.run.run_files import EVERYTHING, Trust
from mopo_pl.report.video import video_of
from mopo_pl.storage.atomic_write import atomic_write, refuse_unwritable
from mopo_pl.storage.run_records import REPORT


def report(folder: Path, settings: Sequence[str], *, as_json: bool) -> str:
    """Write the report of a run into its folder, or return its contents as JSON; returns the text to print.

    Args:
        folder: Folder of the run.
        settings: `dataset=PATH` if the log was moved. Also the code and paths named by the configuration that may be used, as
            `key=value`, or `trust=true` for all of them.
        as_json: Whether the contents are returned as JSON, and no page is written.

    Raises InputError as `gather` does, and for other settings; Unwritable where the page cannot be written.

    """
    began = time.perf_counter()
    folder = folder.expanduser()
    place, trust = _understood(folder, settings)
    if not as_json:
        refuse_unwritable(folder)
    overview = gather(folder, dataset=None, trust=trust, place=place)
    if as_json:
        return json.dumps(jsonable(overview), indent=2, ensure_ascii=False)
    return _write(folder, overview, began)


def report_at_end(folder: Path, dataset: OfflineDataset, loggers: Sequence[Any]) -> None:
    """Write the report of a run that has just ended, and send its figures to the loggers that can show them.

    If that fails, only one sentence is printed, because the run itself is finished.
    """
    began = time.perf_counter()
    try:
        overview = gather(folder, dataset=dataset, trust=EVERYTHING)
        print_once(_write(folder, overview, began))
        show_figures(loggers, overview)
    except Exception as error:
        print_once(
            f"the run is finished, but its report could not be written ({type(error).__name__}: {error}); "
            f"try {shlex.join(['python', '-m', 'mopo_pl', 'report', str(folder)])}"
        )


def _write(folder: Path, overview: RunOverview, began: float) -> str:
    page = render(overview, video_of(folder))
    with atomic_write(folder / REPORT) as aside:
        aside.write_text(page, encoding="utf-8")
    return f"report   {folder / REPORT}  ({time.perf_counter() - began:.0f} s)"


def _understood(folder: Path, settings: Sequence[str]) -> tuple[str | None, Trust]:
    """Return the path of the log, if it was moved, and the code that may be imported."""
    pairs = {key: text for key, _, text in (setting.partition("=") for setting in settings)}
    allowed = ("dataset", *OF_A_FINISHED_RUN, TRUST)
    foreign = [word for word in settings if "=" not in word or not is_within(word.partition("=")[0], allowed)]
    if foreign:
        told = ", ".join(word if "=" not in word else word.partition("=")[0] for word in foreign)
        form = "" if all("=" in word for word in foreign) else ", as key=value"
        raise InputError(f"{told}: only these may be given to report{form}: {', '.join(allowed)}")
    config = config_from_file(folder / "config.yaml")
    place, _ = pairs.pop("dataset", None), pairs.pop(TRUST, None)
    named = {key: attrgetter(key)(config) for key in CODE_KEYS} | dict(texts_of(config.env_kwargs, "env_kwargs"))
    for key, text in pairs.items():
        if text != named.get(key):
            raise InputError(f"{key}={text} is not what {folder} was trained with: {key}={named.get(key)}")
    return place, EVERYTHING if is_trusted(settings) else Trust(frozenset(pairs.values()))
