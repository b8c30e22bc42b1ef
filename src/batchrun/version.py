"""Which batchrun this is, and what it is called where packages are installed from. Imports nothing."""

__version__ = "0.1.0"

DISTRIBUTION = "batchrun-jobs"
"""What pip installs. The name `batchrun` on the package index is another author's project."""


def install(extra: str) -> str:
    """The command that installs batchrun with `extra`, for the messages of those who miss it."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
