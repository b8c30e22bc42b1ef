"""Why an input cannot be used as a whole. These end a run (exit code 2, the spool's 4); nothing is lost by them."""

from __future__ import annotations

from batchrun.core.settings.settings import Refusal


class InputFileError(Refusal):
    """The input cannot be used."""


class InputRefused(InputFileError):
    """It cannot be opened, or not be read as JSON lines. Nothing was sent."""


class InputCutOff(InputRefused):
    """Its compressed data end or break in the middle."""


class InputChanged(InputFileError):
    """It is no longer what the check saw. Jobs that were sent keep running; rows that were read stay good."""


class SpoolFailed(Refusal):
    """The copy of an input that cannot seek could not be written."""
