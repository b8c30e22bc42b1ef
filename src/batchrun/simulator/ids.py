"""The ids of jobs, within ``[A-Za-z0-9_.:~=-]`` as every careful client demands.

- ``resp_`` + serial number + a check that follows from the seed. The id leads to the job without an index,
  and a service with another seed does not know it, as another project would not.
- ``resp_demo_`` + the whole job in base32 + ``.outcome~model`` + its checksum. A later process
  answers for it too, so that a demo can be interrupted and resumed. Only a cancel is not in it.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from hashlib import blake2b

from batchrun.simulator.jobs import CANCEL_BY_NUMBER, MOST, SimulatedJob
from batchrun.simulator.outcomes import JOB_OUTCOMES

_SEED = struct.Struct("<Q")
_SERIAL = struct.Struct("<Q")
_VERSION = 1
_DEMO = struct.Struct("<BQIIIIIIQBB4s")
_DEMO_ID = re.compile(rb"resp_demo_([a-z2-7]+)\.([A-Za-z0-9_]+)~([A-Za-z0-9_.:=-]*)")
_UNSAFE = re.compile(rb"[^A-Za-z0-9_.:-]")
_ESCAPE = re.compile(rb"=([0-9A-F]{2})")
_LONGEST_MODEL = 200


class Ids:
    """Ids for the jobs of one simulator."""

    def __init__(self, seed: int) -> None:
        self._key = _SEED.pack(seed)

    def name(self, serial: int) -> bytes:
        return b"resp_%08x%b" % (serial, self._check(serial))

    def serial(self, name: bytes, count: int) -> int | None:
        """The serial number below `count` with the id `name`; None if there is none."""
        try:
            serial = int(name[5:13], 16)
        except ValueError:
            return None
        return serial if 0 <= serial < count and name == self.name(serial) else None

    def changing(self, serial: int, poll: int) -> bytes:
        """The id in the answer of a job whose id changes; it leads to no job."""
        return b"resp_%08x%b" % (serial, self._check(serial, poll + 1))

    def _check(self, serial: int, poll: int = 0) -> bytes:
        digest = blake2b(_SERIAL.pack(serial | poll << 32), key=self._key, digest_size=12).digest()
        return binascii.hexlify(digest)


def demo_id(job: SimulatedJob) -> bytes:
    """The id that contains all of `job`."""
    model = _UNSAFE.sub(lambda found: b"=%02X" % found[0][0], job.model.encode("utf-8", "replace")[:_LONGEST_MODEL])
    tail = b".%b~%b" % (job.outcome.encode(), model)
    facts = (
        _VERSION,
        round(job.created * 1000),
        _millis(job.starts - job.created),
        _millis(job.ends - job.starts),
        _millis(job.hidden),
        job.nonce,
        min(job.input_tokens, MOST),
        min(job.output_tokens, MOST),
        job.row,
        job.background | job.id_changes << 1,
        CANCEL_BY_NUMBER.index(job.cancel),
    )
    fields = base64.b32encode(_DEMO.pack(*facts, _checksum(facts, tail))).rstrip(b"=").lower()
    return b"resp_demo_" + fields + tail


def job_of_demo_id(name: bytes) -> SimulatedJob | None:
    """The job that the id `name` contains; None for other ids and damaged ones."""
    found = _DEMO_ID.fullmatch(name)
    if found is None:
        return None
    fields, outcome, model = found.groups()
    try:
        *facts, check = _DEMO.unpack(base64.b32decode(fields.upper() + b"=" * (-len(fields) % 8)))
    except (binascii.Error, struct.error):
        return None
    version, created, queued, ran, hidden, nonce, tokens_in, tokens_out, row, flags, cancel = facts
    if version != _VERSION or check != _checksum(tuple(facts), b".%b~%b" % (outcome, model)):
        return None
    if outcome.decode() not in JOB_OUTCOMES or cancel >= len(CANCEL_BY_NUMBER):
        return None
    starts = created / 1000 + _seconds(queued)
    return SimulatedJob(
        created=created / 1000,
        starts=starts,
        ends=starts + _seconds(ran),
        hidden=_seconds(hidden),
        row=row,
        nonce=nonce,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        outcome=outcome.decode(),
        model=_ESCAPE.sub(lambda byte: bytes([int(byte[1], 16)]), model).decode("utf-8", "replace"),
        background=bool(flags & 1),
        id_changes=bool(flags & 2),
        cancel=CANCEL_BY_NUMBER[cancel],
    )


def _checksum(facts: tuple[int, ...], tail: bytes) -> bytes:
    return blake2b(_DEMO.pack(*facts, b"") + tail, person=b"demo", digest_size=4).digest()


def _millis(duration: float) -> int:
    return round(duration * 1000) if duration * 1000 < MOST else MOST


def _seconds(millis: int) -> float:
    return float("inf") if millis == MOST else millis / 1000
