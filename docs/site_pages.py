"""A hook of MkDocs: makes the reference pages out of the code, and turns links into the repository into addresses.

No page of the reference is written by hand: a new module, command or setting appears in it by itself.
"""

import ast
import contextlib
import dataclasses
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import mopo_pl
from mopo_pl import __main__ as program
from mopo_pl.config.help import field_docs
from mopo_pl.config.keys import sections
from mopo_pl.config.schema import Config
from mopo_pl.config.sources.choices import GROUPS, choices

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mopo_pl"
PYTHON_PAGES = "reference/python"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the page of each package into the navigation, where mkdocs.yml names their folder."""
    pages = [{title: path} for title, path, _ in _python_pages()]
    assert config.nav is not None
    for section in config.nav:
        for entry in next(iter(section.values())) if isinstance(next(iter(section.values())), list) else []:
            for title, target in entry.items():
                if target == f"{PYTHON_PAGES}/":
                    entry[title] = pages
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    generated = {path: text for _, path, text in _python_pages()}
    generated["reference/command_line.md"] = _command_line()
    generated["reference/configuration.md"] = _configuration()
    generated["reference/files.md"] = _every_file()
    for path, text in generated.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links from a page to a file outside of docs/ lead to that file in the repository, and the file must exist."""
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def address(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        target = (folder / path).resolve()
        if target.is_relative_to(ROOT / "docs"):
            return match[0]
        if not target.exists() or not target.is_relative_to(ROOT):
            raise PluginError(f"{page.file.src_uri} links {path}, which does not exist")
        kind = "tree" if target.is_dir() else "blob"
        return f"]({config.repo_url}/{kind}/main/{target.relative_to(ROOT).as_posix()}{anchor})"

    return re.sub(r"\]\(((?:\.\./)+[^)#\s]+)(#[^)]*)?\)", address, markdown)


# Python


def _python_pages() -> list[tuple[str, str, str]]:
    """Title, path and text of each page: the public names first, then one page a package, in alphabetical order."""
    packages = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
    pages = [("Public names", f"{PYTHON_PAGES}/index.md", _public_names())]
    for package in packages:
        name = f"mopo_pl.{package.name}"
        pages.append((name, f"{PYTHON_PAGES}/{package.name}.md", _modules_page(name, list(_modules(package)))))
    return pages


def _modules(package: Path) -> Iterator[str]:
    """The dotted names of a package's modules, those of its subpackages included."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _modules_page(title: str, modules: list[str]) -> str:
    return f"# {title}\n\n" + "\n\n".join(f"::: {module}" for module in modules) + "\n"


def _public_names() -> str:
    """The names that `mopo_pl` exports with where they are described, then the modules beside its packages."""
    lines = ["# Public names", "", "| `from mopo_pl import …` | |", "|---|---|"]
    for name in mopo_pl.__all__:
        public = getattr(mopo_pl, name)
        summary = (public.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| [`{name}`][{public.__module__}.{name}] | {_cell(summary)} |")
    lines += ["", "Callbacks are imported as [`mopo_pl.callbacks`](callbacks.md).", ""]
    beside = sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__"))
    return "\n".join(lines) + "\n" + "\n\n".join(f"::: mopo_pl.{module}" for module in beside) + "\n"


# Files


def _every_file() -> str:
    """Each file of the project with the first paragraph of its docstring, folder by folder."""
    lines = ["# Every file", "", "The first paragraph of each file's docstring, from the code."]
    # Not rglob, which does not follow the link `mopo_pl/callbacks`.
    inner = [path.parent for pattern in ("*/__init__.py", "*/*/__init__.py") for path in PACKAGE.glob(pattern)]
    folders = [PACKAGE, *sorted(inner)]
    for folder in folders:
        lines += ["", f"## {folder.relative_to(ROOT).as_posix()}", "", "| file | |", "|---|---|"]
        for path in sorted(folder.glob("*.py")):
            docstring = ast.get_docstring(ast.parse(path.read_text()))
            if docstring is None:
                raise PluginError(f"{path.relative_to(ROOT)} has no docstring")
            lines.append(f"| `{path.name}` | {_cell(docstring.split(chr(10) * 2)[0])} |")
    return "\n".join(lines) + "\n"


# Command line


def _command_line() -> str:
    """What each command prints for `--help`."""
    overview = _help([])
    commands = re.findall(r"^    ([a-z_]+)\s{2,}", overview, re.MULTILINE)
    if "train" not in commands:
        raise PluginError("python -m mopo_pl --help lists no command `train`")
    lines = ["# Command line", "", "`python train.py …` is `python -m mopo_pl train …`.", "", _block(overview)]
    for command in commands:
        lines += [f"## {command}", ""]
        if command == "train":
            lines += ["The settings stand under [Configuration](configuration.md).", ""]
            lines += [_block(_help([command]).partition("\nGroups")[0])]
        else:
            lines += [_block(_help([command]))]
    return "\n".join(lines)


def _help(arguments: list[str]) -> str:
    # argparse asks for the width and the colours of a terminal: the page must not depend on the reader's.
    os.environ.update(COLUMNS="100", NO_COLOR="1")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        program.main([*arguments, "--help"])
    return printed.getvalue()


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


# Configuration


def _configuration() -> str:
    """Every group with its choices, and every key with its default, from the docstrings of the dataclasses."""
    lines = [
        "# Configuration",
        "",
        "`python train.py group=choice key=value`. Values are taken in this order: defaults, `dataset`, `preset`, `trainer` "
        "and `logger`, then single keys. `--print-config` prints the result.",
        "",
        "## Groups",
        "",
    ]
    for group in GROUPS:
        lines += [f"### {group}=", "", "| choice | |", "|---|---|"]
        for name, path in choices(group).items():
            comment = next((line for line in path.read_text().splitlines() if line.startswith("#")), "#")
            lines.append(f"| `{name}` | {_cell(comment.lstrip('# '))} |")
        lines.append("")
    lines += ["## Keys", "", *_table(Config, "")]
    for name, section in sections().items():
        lines += [f"### {name}", "", (section.__doc__ or "").strip(), "", *_table(section, f"{name}.")]
    return "\n".join(lines)


def _table(owner: type, prefix: str) -> list[str]:
    texts, lines = field_docs(owner), ["| key | default | meaning |", "|---|---|---|"]
    for entry in dataclasses.fields(owner):
        default = _default(entry)
        if not dataclasses.is_dataclass(default):
            shown = json.dumps(default, ensure_ascii=False)
            lines.append(f"| `{prefix}{entry.name}` | `{shown}` | {_cell(texts[entry.name])} |")
    return [*lines, ""]


def _default(entry: "dataclasses.Field[Any]") -> Any:
    if entry.default is not dataclasses.MISSING:
        return entry.default
    assert entry.default_factory is not dataclasses.MISSING
    return entry.default_factory()


def _cell(text: str) -> str:
    """Text for a cell of a table, in which signs of Markdown stand for themselves."""
    spoken = re.split(r"(`[^`]*`)", " ".join(text.split()))
    plain = [part if part.startswith("`") else re.sub(r"([*_<>\[\]])", r"\\\1", part) for part in spoken]
    return "".join(plain).replace("|", "\\|")
