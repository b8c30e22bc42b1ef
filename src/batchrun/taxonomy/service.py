"""The profile of the service whose responses are to be classified."""

from __future__ import annotations

import tomllib
from os import PathLike, fspath
from pathlib import Path

from batchrun.core.settings.settings import UsageError
from batchrun.results.run_errors import SettingsError
from batchrun.services.custom import read_profile
from batchrun.services.profile import KNOWN, Profile


def profile_of(service: str | PathLike[str]) -> Profile:
    """The profile that batchrun knows by this name, or that is in this file. Raises SettingsError."""
    name = fspath(service)
    if name in KNOWN:
        return KNOWN[name]
    if not name.endswith(".toml"):
        raise SettingsError(f"service: expected one of {', '.join(KNOWN)}, or a file FILE.toml, got {name[:100]!r}")
    try:
        return read_profile(tomllib.loads(Path(name).read_text(encoding="utf-8")), name)
    except OSError as error:
        raise SettingsError(f"cannot read the profile {name}: {error.strerror}; give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name} is not TOML: {error}; see samples/profile.toml") from error
    except UsageError as error:
        raise SettingsError(str(error)) from error
