"""HTML pages from Jinja templates, with escaping of inserted text."""

from importlib.resources import files
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def filled(package: str, template: str, **values: Any) -> str:
    """Return the template of that name in a package, filled with values.

    Args:
        package: Package whose folder contains the template, and those that it includes.
        template: File name of the template in that folder.
        values: Values by the names that the template uses. A name that is used but missing raises UndefinedError.

    """
    environment = Environment(
        loader=FileSystemLoader(str(files(package))),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
