"""A page of HTML from a template of Jinja, in which every text of a file is escaped."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def filled(package: str, template: str, **values: Any) -> str:
    """The template of that name in a package, filled with values.

    Args:
        package: Whose folder holds the template, and those that it includes.
        template: Name of the file in it.
        values: By the names that the template knows them by. One that it names and does not get raises UndefinedError.

    """
    environment = Environment(
        loader=FileSystemLoader(str(files(package))),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
