"""Files that survive: one class for all append files, and the few operations that replace or mend them.

Laws of this room:

1. It knows bytes, lines and offsets, and no entries: what a line means is the ledger's business.
2. Nothing is called safe before the disk said so, and a disk that failed once is not asked again.
3. All that touches the disk goes through one `Disk`, so that a test can break each single step and a crash
   can be simulated on the same code that runs at night.
"""

from batchrun.edge.append_file.append_file import AppendFile, Lines, SyncGroup
from batchrun.edge.append_file.disk import REAL_DISK, Disk
from batchrun.edge.append_file.distinct_files import refuse_shared
from batchrun.edge.append_file.file_names import FileNames
from batchrun.edge.append_file.opening import (
    OpenFile,
    expect_folder,
    expect_regular,
    open_append,
    open_existing,
    open_to_read,
    read_chunks,
    refuse_input_as_output,
)
from batchrun.edge.append_file.refusals import (
    AppendFailed,
    AppendFileClosed,
    BatchFilesError,
    FileRefused,
    InputIsOutput,
)
from batchrun.edge.append_file.rewrite import rewrite, set_aside, write_whole
from batchrun.edge.append_file.torn_tail import cut_torn, keep_torn
from batchrun.edge.append_file.writer_thread import WriterThread

__all__ = [
    "REAL_DISK",
    "AppendFailed",
    "AppendFile",
    "AppendFileClosed",
    "BatchFilesError",
    "Disk",
    "FileNames",
    "FileRefused",
    "InputIsOutput",
    "Lines",
    "OpenFile",
    "SyncGroup",
    "WriterThread",
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
