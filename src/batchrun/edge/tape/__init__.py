"""Files that survive: one class for all append files, and the few operations that replace or mend them.

Laws of this room:

1. It knows bytes, lines and offsets, and no entries: what a line means is the ledger's business.
2. Nothing is called safe before the disk said so, and a disk that failed once is not asked again.
3. All that touches the disk goes through one `Disk`, so that a test can break each single step and a crash
   can be simulated on the same code that runs at night.
"""

from batchrun.edge.tape.apart import refuse_shared
from batchrun.edge.tape.disk import REAL_DISK, Disk
from batchrun.edge.tape.lines import Lines
from batchrun.edge.tape.mend import cut_torn, keep_torn, set_aside
from batchrun.edge.tape.names import Names
from batchrun.edge.tape.opening import (
    Opened,
    expect_folder,
    expect_regular,
    open_append,
    open_existing,
    open_to_read,
    read_chunks,
    refuse_input_as_output,
)
from batchrun.edge.tape.refusals import FileRefused, FilesError, InputIsOutput, TapeClosed, TapeFailed
from batchrun.edge.tape.rewrite import rewrite, write_whole
from batchrun.edge.tape.scribe import Scribe
from batchrun.edge.tape.tape import Group, Tape

__all__ = [
    "REAL_DISK",
    "Disk",
    "FileRefused",
    "FilesError",
    "Group",
    "InputIsOutput",
    "Lines",
    "Names",
    "Opened",
    "Scribe",
    "Tape",
    "TapeClosed",
    "TapeFailed",
    "cut_torn",
    "expect_folder",
    "expect_regular",
    "keep_torn",
    "open_append",
    "open_existing",
    "open_to_read",
    "read_chunks",
    "refuse_input_as_output",
    "refuse_shared",
    "rewrite",
    "set_aside",
    "write_whole",
]
