"""httpx and httpx2 have the same classes under other names; which of them an object belongs to."""

from __future__ import annotations

import sys
from types import ModuleType


def package_of(thing: object) -> ModuleType | None:
    """The package whose classes go with `thing`: httpx, httpx2, or whatever has their shape."""
    for cls in type(thing).__mro__:
        package = sys.modules.get(cls.__module__.partition(".")[0])
        if package is not None and hasattr(package, "AsyncBaseTransport") and hasattr(package, "Request"):
            return package
    return None
