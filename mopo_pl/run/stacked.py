"""Runs of several seeds in one process, their updates made together on stacked parameters."""

import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress

from mopo_pl.config.schema import Config
from mopo_pl.distributed.console import say, speaking_for
from mopo_pl.distributed.launch import processes_of_one_run
from mopo_pl.distributed.signals import SignalWatch
from mopo_pl.errors import Diverged, InputError, Unwritable
from mopo_pl.run.inputs import open_inputs
from mopo_pl.run.session import run
from mopo_pl.sac.module import SACModule
from mopo_pl.sac.rendezvous import Rendezvous

FAILED = 1


def run_stacked(runs: Sequence[Config]) -> int:
    """Trains runs that differ by seed and folder alone, on a log that is opened once; the first exit code but 0.

    On another device than the CPU each run has its own copy of the log and the model buffer. One that fails does not stop the
    others. Raises what the first in order has raised, after all have ended.
    """
    inputs, watch = open_inputs(runs[0]), SignalWatch()
    rendezvous = Rendezvous(len(runs), stopping=lambda: watch.received is not None)
    codes, errors = [FAILED] * len(runs), dict[int, BaseException]()
    say(f"{len(runs)} runs whose updates are made together (seeds=in_turn: one after another)")

    def train(place: int, config: Config) -> None:
        def stack(sac: SACModule) -> None:
            sac.stack(rendezvous, place)
            rendezvous.gather(place)

        with rendezvous.turn(), speaking_for(f"seed {config.seed}"):
            if watch.received is not None:
                codes[place] = 128 + watch.received
                return
            try:
                codes[place] = run(config, inputs=inputs, watch=watch, before_policy=stack)
            except BaseException as error:
                errors[place] = error
                expected = isinstance(error, InputError | Diverged | Unwritable)
                with suppress(OSError):  # a reader that has left
                    say(f"ended by an error: {error}" if expected else traceback.format_exc())

    with processes_of_one_run(), watch.watching():
        threads = [threading.Thread(target=train, args=each) for each in enumerate(runs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[min(errors)]
    return next(filter(None, codes), 0)
