"""Download and upload policies on the Hugging Face hub, by names such as `hub:me/pendulum`. Needs the extra `hub`."""

import importlib.util
import re
from pathlib import Path

from mopo_pl.errors import InputError

PREFIX = "hub:"
FILES = ["policy.json", "policy.safetensors"]
"""Files that are downloaded."""
CARD = ["README.md", "card.json"]
"""Files that are uploaded in addition to `FILES`."""


def is_hub(place: object) -> bool:
    """Return whether a path or name is a name on the hub.

    >>> is_hub("hub:me/pendulum"), is_hub("runs/latest")
    (True, False)
    """
    return str(place).startswith(PREFIX)


def repository_of(place: str) -> str:
    """Return the repository `me/pendulum` of `hub:me/pendulum`.

    Raises InputError for another form of name, or if the extra `hub` is not installed.
    """
    name = place.removeprefix(PREFIX)
    if not is_hub(place) or not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
        raise InputError(f"{place} is no place on the hub: write hub:OWNER/NAME")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise InputError(f"{place} needs huggingface_hub: pip install -c constraints.txt -e '.[hub]'")
    return name


def downloaded(place: str) -> Path:
    """Download the two files of a policy, or take them from the hub's cache, and return their folder.

    Raises InputError if they cannot be downloaded.
    """
    repository = repository_of(place)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, allow_patterns=FILES))
    except Exception as error:  # errors of the client and of its transport have no common class
        raise InputError(
            f"{place} cannot be downloaded ({_short(error)}): is the name right, and are you online?"
        ) from error


def upload(folder: Path, place: str, *, public: bool) -> str | None:
    """Upload a folder as one commit; return None, or the reason if the upload fails.

    A new repository is private unless `public`.
    """
    repository = repository_of(place)
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    api = HfApi()
    try:
        api.create_repo(repository, private=not public, exist_ok=True)
        words = "Upload a policy of mopo_pl"
        api.upload_folder(repo_id=repository, folder_path=folder, allow_patterns=[*FILES, *CARD], commit_message=words)
    except Exception as error:  # errors without a common class, as above
        return _short(error)
    return None


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
