"""The commands `evaluate`, `video`, `export`, `push` and `estimate`: their arguments and their calls."""

import argparse
from pathlib import Path
from typing import Any

from mopo_pl.distributed.streams import show
from mopo_pl.errors import InputError

FORMS = ("numpy", "torch", "onnx")
"""Names in `export.forms.FORMS`, repeated here so that torch is not imported (a test compares them)."""
TRUSTED = "trust=true: follow the code and files that the environment of the run's config.yaml names"
"""Help text of the settings of `export` and `push`."""


def add_evaluate(commands: Any) -> None:
    """Add `evaluate` to the subparsers of `python -m mopo_pl`."""
    evaluate = commands.add_parser("evaluate", help="evaluate the policy of a run in its environment")
    evaluate.add_argument("run", type=Path, help="run folder")
    evaluate.add_argument(
        "settings",
        nargs="*",
        default=[],
        help="env_id=Hopper-v5, env_kwargs.key=value: another environment than the run's; trust=true: run the code it names",
    )
    evaluate.add_argument("--episodes", type=int, default=20, help="number of episodes (default: %(default)s)")
    evaluate.add_argument("--seed", type=int, default=0, help="seed of the first episode (default: %(default)s)")
    evaluate.add_argument("--actor", metavar="MODULE:CLASS", help="class of the policy network, if it is your own")
    evaluate.set_defaults(act=_evaluate)


def add_video(commands: Any) -> None:
    """Add `video` to the subparsers of `python -m mopo_pl`."""
    video = commands.add_parser("video", help="write a video of the policy of a run in its environment")
    video.add_argument("run", type=Path, help="run folder")
    video.add_argument("settings", nargs="*", default=[], help="as for evaluate")
    video.add_argument("--episodes", type=int, default=1, help="number of episodes (default: %(default)s)")
    video.add_argument("--seed", type=int, default=0, help="seed of the first episode (default: %(default)s)")
    video.add_argument("--out", type=Path, metavar="FILE", help="what is written, .webp (default: RUN/video.webp)")
    video.add_argument("--actor", metavar="MODULE:CLASS", help="class of the policy network, if it is your own")
    video.set_defaults(act=_video)


def add_export(commands: Any) -> None:
    """Add `export` to the subparsers of `python -m mopo_pl`."""
    export = commands.add_parser("export", help="write the policy of a run as files that run without this project")
    export.add_argument("run", type=Path, help="run folder, or its policy folder")
    export.add_argument("settings", nargs="*", default=[], help=TRUSTED)
    export.add_argument("--to", choices=(*FORMS, "all"), default="all", help="form (default: all that can be written)")
    export.add_argument("--out", type=Path, metavar="FOLDER", help="where they are written (default: RUN/export)")
    export.add_argument("--distribution", action="store_true", help="the means and log deviations as outputs too")
    export.add_argument("--licence", default="not stated", help="of the weights (default: %(default)s)")
    export.add_argument("--actor", metavar="MODULE:CLASS", help="class of the policy network, if it is your own")
    export.set_defaults(act=_export)


def add_push(commands: Any) -> None:
    """Add `push` to the subparsers of `python -m mopo_pl`."""
    push = commands.add_parser("push", help="write the card of a run's policy, and upload both")
    push.add_argument("run", type=Path, help="run folder")
    push.add_argument("settings", nargs="*", default=[], help=TRUSTED)
    push.add_argument("--to", metavar="hub:OWNER/NAME", help="where to (default: nowhere, the folder is made ready)")
    push.add_argument("--public", action="store_true", help="for all to see (default: a private repository)")
    push.add_argument("--licence", default="not stated", help="of the weights (default: %(default)s)")
    push.add_argument("--actor", metavar="MODULE:CLASS", help="class of the policy network, if it is your own")
    push.set_defaults(act=_push)


def add_estimate(commands: Any) -> None:
    """Add `estimate` to the subparsers of `python -m mopo_pl`."""
    estimate = commands.add_parser(
        "estimate", help="estimate the return of a run's policy without its environment, with a verdict"
    )
    estimate.add_argument("run", type=Path, help="run folder")
    estimate.add_argument(
        "settings",
        nargs="*",
        default=[],
        help="trust=true: follow the code and places that the run's config.yaml names; termination=module:function, …: this one",
    )
    estimate.add_argument("--seed", type=int, default=0, help="seed of rollouts and networks (default: %(default)s)")
    estimate.add_argument("--json", action="store_true", help="as one JSON object")
    estimate.set_defaults(act=_estimate)


def _evaluate(options: argparse.Namespace) -> int:
    from mopo_pl.run.finished.evaluation import evaluate_run

    if options.episodes < 1:
        raise InputError(f"--episodes {options.episodes} must be at least 1")
    if not 0 <= options.seed < 2**31:
        raise InputError(f"--seed {options.seed} must lie in [0, 2**31)")
    actor = _actor(options)
    return evaluate_run(options.run, options.episodes, options.seed, actor, **_environment(options, "evaluate"))


def _video(options: argparse.Namespace) -> int:
    from mopo_pl.run.finished.video import film_run

    if not 0 <= options.seed < 2**31:
        raise InputError(f"--seed {options.seed} must lie in [0, 2**31)")
    told = film_run(
        options.run.expanduser(),
        episodes=options.episodes,
        seed=options.seed,
        out=options.out,
        actor=_actor(options),
        **_environment(options, "video"),
    )
    show("\n".join(told))
    return 0


def _environment(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """Return the environment that the settings of a command choose, and whether code that a run names is trusted."""
    from mopo_pl.config.compose import compose
    from mopo_pl.config.foreign import TRUST, is_trusted

    given = [key for setting in options.settings if (key := setting.partition("=")[0]) != TRUST]
    foreign = [key for key in given if key != "env_id" and key.partition(".")[0] != "env_kwargs"]
    if foreign:
        raise InputError(f"{', '.join(foreign)}: only env_id and env_kwargs may be given to {command}")
    config = compose(options.settings)
    return {
        "env_id": config.env_id if "env_id" in given else None,
        "env_kwargs": config.env_kwargs if any(key != "env_id" for key in given) else None,
        "trust": is_trusted(options.settings),
    }


def _export(options: argparse.Namespace) -> int:
    from mopo_pl.run.finished.exported import export_run

    return export_run(
        options.run,
        forms=None if options.to == "all" else (options.to,),
        out=options.out,
        distribution=options.distribution,
        licence=options.licence,
        actor=_actor(options),
        trust=_trust(options, "export"),
    )


def _push(options: argparse.Namespace) -> int:
    from mopo_pl.run.finished.card import push_run

    return push_run(
        options.run,
        to=options.to,
        public=options.public,
        licence=options.licence,
        actor=_actor(options),
        trust=_trust(options, "push"),
    )


def _estimate(options: argparse.Namespace) -> int:
    import json

    from mopo_pl.run.finished.estimate_command import estimate_run
    from mopo_pl.run.finished.estimates_text import as_text

    if not 0 <= options.seed < 2**31:
        raise InputError(f"--seed {options.seed} must lie in [0, 2**31)")
    run = options.run.expanduser()
    found = estimate_run(run, seed=options.seed, settings=options.settings)
    show(json.dumps(found, indent=1) if options.json else as_text(run, found))
    return 0


def _actor(options: argparse.Namespace) -> Any:
    """Return the class that --actor names, None if it is not given."""
    from mopo_pl.config.registry import lookup

    try:
        return None if options.actor is None else lookup("actor", options.actor, {})
    except ValueError as error:
        raise InputError(f"--actor {options.actor}: {error}") from error


def _trust(options: argparse.Namespace, command: str) -> bool:
    """Return whether `trust=true` is given, the only setting of the command; raise InputError for others."""
    from mopo_pl.config.foreign import TRUST, is_trusted

    foreign = [setting for setting in options.settings if not setting.startswith(f"{TRUST}=")]
    if foreign:
        raise InputError(f"{', '.join(foreign)}: only {TRUST}=true may be given to {command}")
    return is_trusted(options.settings)
