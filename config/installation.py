"""Secrets made once for an installation and kept in its data directory."""

import os
import secrets
from pathlib import Path

from config.failure import StartError


def installation_secret(file: Path, *, random_bytes: int) -> str:
    """Read a secret, making it first where there is none; two processes that start together get the same one.

    Raises: StartError when it cannot be kept.
    """
    try:
        if not file.exists():
            _create(file, secrets.token_urlsafe(random_bytes))
        return file.read_text().strip()
    except OSError as error:
        raise StartError(
            f"{file} cannot be read or written ({error.strerror}): "
            "change its owner, or set PERENNIAL_DATA_DIR to another directory."
        ) from None


def _create(file: Path, secret: str) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as output:
        output.write(secret + "\n")
    try:
        os.link(draft, file)
    except FileExistsError:
        pass  # the other process was first: its secret counts
    finally:
        draft.unlink()
