"""Runs of several seeds in one process, their updates made together on stacked parameters."""

import threading
from collections.abc import Sequence

from mopo_pl.config import Config
from mopo_pl.messages import say, speaking_for
from mopo_pl.run.inputs import open_inputs
from mopo_pl.run.processes import processes_of_one_run
from mopo_pl.run.session import run
from mopo_pl.run.signals import SignalWatch
from mopo_pl.sac.meeting import Meeting


def run_stacked(runs: Sequence[Config]) -> int:
    """Trains runs that differ by seed and folder alone, on one copy of the log; the first exit code but 0.

    Raises what the first of the runs that failed has raised, after the others have ended.
    """
    inputs, meeting, watch = open_inputs(runs[0]), Meeting(len(runs)), SignalWatch()
    codes, errors = [0] * len(runs), list[BaseException]()
    say(f"{len(runs)} runs whose updates are made together (seeds=in_turn: one after another)")

    def train(place: int, config: Config) -> None:
        with meeting.attended(), speaking_for(f"seed {config.seed}"):
            try:
                codes[place] = run(config, inputs=inputs, watch=watch, meet=lambda sac: sac.meet(meeting, place))
            except BaseException as error:
                say(f"ended by an error: {error}")
                errors.append(error)

    with processes_of_one_run(), watch.watching():
        threads = [threading.Thread(target=train, args=each) for each in enumerate(runs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]
    return next(filter(None, codes), 0)
