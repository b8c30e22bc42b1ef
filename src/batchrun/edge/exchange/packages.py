"""Which package an object belongs to: httpx and httpx2 have the same classes under other names."""

from __future__ import annotations

import sys
from types import ModuleType


def package_of(value: object) -> ModuleType | None:
    """The package whose classes go with `value`: httpx, httpx2, or whatever has their shape."""
    for cls in type(value).__mro__:
        package = sys.modules.get(cls.__module__.partition(".")[0])
        if package is not None and hasattr(package, "AsyncBaseTransport") and hasattr(package, "Request"):
            return package
    return None
