"""`python -m mopo_pl train | sweep | compare | evaluate | estimate | report | export | push | inspect | collect | relabel | theory`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mopo_pl import cli
from mopo_pl.distributed.streams import forgiving_streams
from mopo_pl.errors import Diverged, InputError, Unwritable

LEVELS = ("random", "medium", "medium-replay", "medium-expert", "expert")
"""Those of `collection.command.LEVELS`, repeated here so that torch is not imported (a test compares them)."""
TASKS = ("halfcheetah-jump", "ant-angle")
"""Those of `collection.relabelling.TASKS`, repeated for the same reason."""
FORMS = ("numpy", "torch", "onnx")
"""Those of `export.forms.FORMS`, repeated for the same reason."""
TRUSTED = "trust=true: follow the code and files that the environment of the run's config.yaml names"
"""Help of the settings of `export` and `push`."""
STOPPED = 3
"""Exit code of `inspect` where a log must not be trained on."""
THEORY = {"seed": 0, "states": 4, "actions": 3, "discount": 0.9}
"""Defaults of `theory`."""
MOST_STATES, MOST_DISCOUNT = 60, 0.999
"""Limits of `theory`: NumPy supports 64 array dimensions, and float64 becomes inaccurate for γ close to 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code.

    0; 1 where a collection failed; 2 for wrong input; 3 where `inspect` finds that a log must not be trained on; 130 for Ctrl-C,
    128 + the number of another signal; or that of `train`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:
        return cli.main(arguments[1:])
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse takes key=value before the first --option alone.
    if rest and (not hasattr(options, "settings") or any(word.startswith("-") or "=" not in word for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        options.settings = [*options.settings, *rest]
    options.arguments = arguments
    with forgiving_streams():
        return _coded(options)


def _coded(options: argparse.Namespace) -> int:
    try:
        return options.act(options)
    except InputError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2
    except (Diverged, Unwritable) as error:
        print(f"error: {error}", file=sys.stderr)
        return cli.FAILED
    except (MemoryError, RuntimeError) as error:
        if not cli.is_lack_of_memory(error):
            raise
        print(f"error: {cli.lack_of_memory(error)}", file=sys.stderr)
        return cli.FAILED
    except KeyboardInterrupt:
        return cli.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mopo_pl")
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser("train", help="train, like python train.py (options: train --help)", add_help=False)
    _add_sweep(commands)
    _add_compare(commands)
    evaluate = commands.add_parser("evaluate", help="evaluate the policy of a run in its environment")
    evaluate.add_argument("run", type=Path, help="run folder")
    evaluate.add_argument(
        "settings",
        nargs="*",
        help="env_id=Hopper-v5, env_kwargs.key=value: another environment than the run's; trust=true: run the code it names",
    )
    evaluate.add_argument("--episodes", type=int, default=20, help="number of episodes (default: %(default)s)")
    evaluate.add_argument("--seed", type=int, default=0, help="seed of the first episode (default: %(default)s)")
    evaluate.add_argument("--actor", metavar="MODULE:CLASS", help="class of the policy network, if it is your own")
    evaluate.set_defaults(act=_evaluate)
    export = commands.add_parser("export", help="write the policy of a run as files that run without this project")
    export.add_argument("run", type=Path, help="run folder, or its policy folder")
    export.add_argument("settings", nargs="*", help=TRUSTED)
    export.add_argument("--to", choices=(*FORMS, "all"), default="all", help="form (default: all that can be written)")
    export.add_argument("--out", type=Path, metavar="FOLDER", help="where they are written (default: RUN/export)")
    export.add_argument("--distribution", action="store_true", help="the means and log deviations as outputs too")
    export.add_argument("--licence", default="not stated", help="of the weights (default: %(default)s)")
    export.add_argument("--actor", metavar="MODULE:CLASS", help="class of the policy network, if it is your own")
    export.set_defaults(act=_export)
    push = commands.add_parser("push", help="write the card of a run's policy, and upload both")
    push.add_argument("run", type=Path, help="run folder")
    push.add_argument("settings", nargs="*", help=TRUSTED)
    push.add_argument("--to", metavar="hub:OWNER/NAME", help="where to (default: nowhere, the folder is made ready)")
    push.add_argument("--public", action="store_true", help="for all to see (default: a private repository)")
    push.add_argument("--licence", default="not stated", help="of the weights (default: %(default)s)")
    push.add_argument("--actor", metavar="MODULE:CLASS", help="class of the policy network, if it is your own")
    push.set_defaults(act=_push)
    estimate = commands.add_parser(
        "estimate", help="estimate the return of a run's policy without its environment, with a verdict"
    )
    estimate.add_argument("run", type=Path, help="run folder")
    estimate.add_argument(
        "settings",
        nargs="*",
        help="trust=true: follow the code and places that the run's config.yaml names; termination=module:function, …: this one",
    )
    estimate.add_argument("--seed", type=int, default=0, help="seed of rollouts and networks (default: %(default)s)")
    estimate.add_argument("--json", action="store_true", help="as one JSON object")
    estimate.set_defaults(act=_estimate)
    report = commands.add_parser("report", help="write report.html into a run folder: one page about the run")
    report.add_argument("run", type=Path, help="run folder")
    report.add_argument(
        "settings",
        nargs="*",
        help="dataset=PATH, if the log was moved; trust=true: follow the code and places that the run's config.yaml names; "
        "penalty.name=module:function, …: this one",
    )
    report.add_argument("--json", action="store_true", help="print what the page shows as one JSON object instead")
    report.set_defaults(act=_report)
    inspect = commands.add_parser(
        "inspect", help="say what a dataset holds, and check it (exit code 3: do not train on it)"
    )
    inspect.add_argument("dataset", help="as dataset= of train.py")
    inspect.add_argument("settings", nargs="*", help="key=value, such as env_id=Hopper-v5")
    inspect.add_argument("--json", action="store_true", help="as one JSON object")
    inspect.set_defaults(act=_inspect)
    collect = commands.add_parser(
        "collect", help="collect a log in an environment; the same command resumes a killed one"
    )
    collect.add_argument("env_id", help="Gymnasium id")
    collect.add_argument("out", help="what is written: a file ending in .hdf5 or .npz, or a Minari id ending in -v0")
    collect.add_argument("settings", nargs="*", help="key=value: seed, sac.*, evaluation.*, env_kwargs.*, threads")
    collect.add_argument(
        "--policy",
        help="random, sac (learns there), module:function of the observation, or a run folder (default: random)",
    )
    collect.add_argument("--level", choices=LEVELS, help="of soft actor-critic's policies, as D4RL defines it")
    collect.add_argument("--steps", type=int, help="rows of the log (default: 1000000)")
    collect.add_argument("--train-steps", type=int, default=1_000_000, help="steps of learning (default: %(default)s)")
    collect.add_argument("--start-steps", type=int, default=5000, help="random steps before it (default: %(default)s)")
    collect.add_argument("--medium-return", type=float, help="return of a medium policy (default: a third of the way)")
    collect.add_argument("--noise", type=float, default=0.0, help="added to actions, in half their range (default: 0)")
    collect.add_argument("--seed", type=int, default=0, help="seed (default: %(default)s)")
    collect.add_argument("--folder", type=Path, help="what a killed collection leaves (default: runs/collected/<name>)")
    collect.set_defaults(act=_collect)
    relabel = commands.add_parser("relabel", help="write a collected log with the reward of another task")
    relabel.add_argument("source", help="as dataset= of train.py")
    relabel.add_argument("out", help="what is written: a file ending in .hdf5 or .npz, or a Minari id ending in -v0")
    relabel.add_argument("--reward", choices=TASKS, required=True, help="the task (docs/data.md)")
    relabel.set_defaults(act=_relabel)
    theory = commands.add_parser("theory", help="evaluate the proof behind the penalty on a small random MDP")
    theory.add_argument(
        "--seed", type=int, help=f"seed of the MDP and its inaccurate model (default: {THEORY['seed']})"
    )
    theory.add_argument(
        "--states", type=int, help=f"number of states; at most 20 000 policies (default: {THEORY['states']})"
    )
    theory.add_argument("--actions", type=int, help=f"number of actions (default: {THEORY['actions']})")
    theory.add_argument(
        "--discount", type=float, help=f"discount factor γ in [0, {MOST_DISCOUNT}] (default: {THEORY['discount']})"
    )
    theory.add_argument("--figure", metavar="FOLDER", help="draw two figures into FOLDER instead")
    theory.set_defaults(act=_theory)
    return parser


def _add_sweep(commands: Any) -> None:
    sweep = commands.add_parser(
        "sweep", help="train a run for each combination of settings, or search; the same command continues a killed one"
    )
    sweep.add_argument(
        "settings",
        nargs="*",
        help="as for train, with several values parted by commas: penalty.coef=0.5,2.5 rollout.horizon=5,20 seed=0,1,2; with "
        "--search, ranges ('penalty.coef=0.1..10 (log)'), objective=return or estimate, storage=journal:FILE or a database's URL",
    )
    sweep.add_argument("--folder", type=Path, help="where the runs go (default: one in runs/sweeps for these settings)")
    sweep.add_argument("--at-once", type=int, help="runs that train at the same time (default: as the cores allow)")
    sweep.add_argument("--search", type=int, metavar="N", help="train N trials that Optuna chooses, instead of a grid")
    sweep.add_argument("--dry-run", action="store_true", help="list the runs and exit")
    sweep.set_defaults(act=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    from mopo_pl.sweep.command import Request, sweep_grid
    from mopo_pl.sweep.search import search

    for name in ("at_once", "search"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(options, name)} must be at least 1")
    command = shlex.join(["python", "-m", "mopo_pl", *options.arguments])
    folder = None if options.folder is None else options.folder.expanduser()
    request = Request(command, folder, options.at_once, options.dry_run)
    if options.search is None:
        return sweep_grid(options.settings, request)
    return search(options.settings, options.search, request)


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser("compare", help="compare runs by their returns, grouped by the settings that differ")
    compare.add_argument("runs", nargs="+", type=Path, metavar="run", help="run folders, or folders of sweeps")
    compare.add_argument(
        "--out", type=Path, help="where the pages go (default: the folder of the sweep, else comparison)"
    )
    compare.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    compare.set_defaults(act=_compare)


def _compare(options: argparse.Namespace) -> int:
    from mopo_pl.comparison.command import compare

    cli.show(compare(options.runs, options.out, as_json_text=options.json))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from mopo_pl.config.compose import compose
    from mopo_pl.config.foreign import TRUST, is_trusted
    from mopo_pl.run.finished.evaluation import evaluate_run

    if options.episodes < 1:
        raise InputError(f"--episodes {options.episodes} must be at least 1")
    if not 0 <= options.seed < 2**31:
        raise InputError(f"--seed {options.seed} must lie in [0, 2**31)")
    actor = _actor(options)
    given = [key for setting in options.settings if (key := setting.partition("=")[0]) != TRUST]
    foreign = [key for key in given if key != "env_id" and key.partition(".")[0] != "env_kwargs"]
    if foreign:
        raise InputError(f"{', '.join(foreign)}: only env_id and env_kwargs may be given to evaluate")
    config = compose(options.settings)
    return evaluate_run(
        options.run,
        options.episodes,
        options.seed,
        actor,
        env_id=config.env_id if "env_id" in given else None,
        env_kwargs=config.env_kwargs if any(key != "env_id" for key in given) else None,
        trust=is_trusted(options.settings),
    )


def _actor(options: argparse.Namespace) -> Any:
    """The class that --actor names, if it is given."""
    from mopo_pl.config.registry import lookup

    try:
        return None if options.actor is None else lookup("actor", options.actor, {})
    except ValueError as error:
        raise InputError(f"--actor {options.actor}: {error}") from error


def _trust(options: argparse.Namespace, command: str) -> bool:
    """Whether `trust=true` is given, the only setting that the command takes."""
    from mopo_pl.config.foreign import TRUST, is_trusted

    foreign = [setting for setting in options.settings if not setting.startswith(f"{TRUST}=")]
    if foreign:
        raise InputError(f"{', '.join(foreign)}: only {TRUST}=true may be given to {command}")
    return is_trusted(options.settings)


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

    from mopo_pl.run.finished.estimates import as_text, estimate_run

    if not 0 <= options.seed < 2**31:
        raise InputError(f"--seed {options.seed} must lie in [0, 2**31)")
    run = options.run.expanduser()
    found = estimate_run(run, seed=options.seed, settings=options.settings)
    cli.show(json.dumps(found, indent=1) if options.json else as_text(run, found))
    return 0


def _report(options: argparse.Namespace) -> int:
    from mopo_pl.report.command import report

    cli.show(report(options.run, options.settings, as_json=options.json))
    return 0


def _inspect(options: argparse.Namespace) -> int:
    """Print the checks of a log; exit code 3 where one says STOP."""
    from mopo_pl.config.compose import compose
    from mopo_pl.data.doctor.report import as_json, as_text
    from mopo_pl.data.findings import worst
    from mopo_pl.run.inputs import examine_inputs

    config = compose([f"dataset={options.dataset}", *options.settings])
    log = examine_inputs(config, without_rule="WARN")
    told = as_json(config.dataset, log.dataset, log.findings) if options.json else as_text(log.dataset, log.findings)
    cli.show(told)
    return STOPPED if worst(log.findings) == "STOP" else 0


def _collect(options: argparse.Namespace) -> int:
    from mopo_pl.collection.command import Collection, collect

    learns = options.level not in (None, "random")
    collection = Collection(
        env_id=options.env_id,
        out=options.out,
        policy=options.policy or ("sac" if learns else "random"),
        level=options.level,
        steps=options.steps if options.steps is not None or options.level == "medium-replay" else 1_000_000,
        train_steps=options.train_steps,
        start_steps=options.start_steps,
        medium_return=options.medium_return,
        noise=options.noise,
        settings=(f"seed={options.seed}", *options.settings),
        command=shlex.join(["python", "-m", "mopo_pl", *options.arguments]),
    )
    return collect(collection, options.folder)


def _relabel(options: argparse.Namespace) -> int:
    from mopo_pl.collection.relabelling import relabel

    command = shlex.join(["python", "-m", "mopo_pl", *options.arguments])
    return relabel(options.source, options.out, options.reward, command)


def _theory(options: argparse.Namespace) -> int:
    given = {name: value for name in THEORY if (value := getattr(options, name)) is not None}
    if options.figure is not None:
        if given:
            raise InputError(f"--figure draws two fixed examples: remove {', '.join(f'--{name}' for name in given)}")
        return _draw(options.figure)
    from mopo_pl.theory.policies import check_enumerable
    from mopo_pl.theory.report import report

    seed, states, actions, discount = ({**THEORY, **given}[name] for name in THEORY)
    counts = {"--states": states, "--actions": actions}
    problems = [f"{name} {count} must be at least 1" for name, count in counts.items() if count < 1]
    if states > MOST_STATES:
        problems.append(f"--states {states} must be at most {MOST_STATES}")
    if not 0 <= seed < 2**31:
        problems.append(f"--seed {seed} must lie in [0, 2**31)")
    if not 0 <= discount <= MOST_DISCOUNT:
        problems.append(f"--discount {discount} must lie in [0, {MOST_DISCOUNT}]")
    if not problems:
        try:
            check_enumerable(states, actions)
        except ValueError as error:
            problems.append(f"--states {states} --actions {actions}: {error}")
    if problems:
        raise InputError(problems)
    cli.show(report(seed, states, actions, discount))
    return 0


def _draw(name: str) -> int:
    from mopo_pl.theory.figures import draw

    folder = Path(name).expanduser()
    if not name or (folder.exists() and not folder.is_dir()):
        raise InputError(f"--figure '{name}' is not a folder")
    try:
        paths = draw(folder)
    except OSError as error:
        raise InputError(f"--figure: {error.filename or folder} cannot be written ({error.strerror})") from error
    cli.show("\n".join(map(str, paths)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
