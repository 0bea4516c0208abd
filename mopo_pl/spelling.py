"""How a value is written for the user."""

import json
from typing import Any


def as_typed(value: Any) -> str:
    """As on a command line: null, true, [policy, rollouts]."""
    return json.dumps(value, ensure_ascii=False, default=str).replace('"', "")
