"""The text of `--help`, made of the field docstrings in `schema.py` and the first comment of each file in `conf/`."""

import ast
import dataclasses
import inspect
import json
import textwrap
from typing import Any

from mopo_pl.config.schema import Config
from mopo_pl.config.sources.choices import GROUPS, choices

HEADER = """\
mopo_pl: offline reinforcement learning from a dataset of transitions (MOPO, Yu et al. 2020)

  python train.py [group=choice] [key=value] …

  python train.py                                           train on the built-in pendulum dataset
  python train.py dataset=my_log.npz termination=never      train on your data, without a simulator
  python train.py dataset=my_plant.yaml                     train on a log that a mapping file of yours describes
  python train.py dataset=halfcheetah-medium-v2 preset=d4rl-v2 data.d4rl_folder=~/d4rl
  python train.py resume=runs/latest                        resume the latest run
  python train.py resume=runs/latest trust=true             and run the code that its configuration names (SECURITY.md)

  --help          print this text
  --print-config  print the configuration and exit
  --dry-run       open the dataset, print the plan of the run and exit
"""


def help_text() -> str:
    """Return the text: the groups with their choices, then every key with its default and meaning."""
    lines = [
        HEADER,
        "Groups (later sources override earlier ones: defaults, dataset, preset, trainer, logger, key=value)",
    ]
    for group in GROUPS:
        lines.append(f"  {group}=")
        for name, path in choices(group).items():
            first = next((line for line in path.read_text().splitlines() if line.startswith("#")), "#")
            lines.append(f"    {name:<30} {first.lstrip('# ')}")
    lines.append("\nKeys")
    lines += _fields(Config, "")
    return "\n".join(lines)


def _fields(owner: type, prefix: str) -> list[str]:
    texts, lines = field_docs(owner), []
    for entry in dataclasses.fields(owner):
        default = _default(entry)
        if dataclasses.is_dataclass(default):
            name = f"{prefix}{entry.name}"
            lines += ["", f"  {name}: {inspect.getdoc(type(default))}", *_fields(type(default), f"{name}.")]
            continue
        lines.append(f"  {prefix}{entry.name}={_shown(default)}")
        lines += textwrap.wrap(texts[entry.name], 112, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines


def field_docs(owner: type) -> dict[str, str]:
    """Return the docstring under each field of a dataclass, by field name."""
    body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            assert isinstance(statement.target, ast.Name)
            assert isinstance(following.value, ast.Constant)
            found[statement.target.id] = str(following.value.value)
    return found


def _default(entry: dataclasses.Field[Any]) -> Any:
    return entry.default if entry.default is not dataclasses.MISSING else entry.default_factory()  # type: ignore[misc]


def _shown(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
