"""OUT.unreadable/: responses that could not be parsed, kept as received. They were very likely paid for."""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import blake2b

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW


def keep_unreadable(folder: str, key: str, body: bytes) -> str | None:
    """Write `body` into `folder` under a name made from the row's key; its path, or None if that failed.

    The name is a hash, because a key may hold anything. A failure loses nothing that could be parsed: the
    record says what happened, and the job can be fetched again while the service keeps it.
    """
    name = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    path = f"{folder}/{name}.body"
    with suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - paths are str in the edge
        descriptor = os.open(path, _NEW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
        return path
    return None
