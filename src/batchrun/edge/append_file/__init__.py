"""Files that survive a crash: append files, and the few operations that replace or repair them.

Reading order: `file_names` (a batch's paths), `opening`, `append_file` (group commit), `writer_thread` (the same next to
an event loop), `torn_tail`, `rewrite` (replace or move files), `distinct_files`, `refusals` (errors), `disk`.

Invariants:

1. It knows bytes, lines and offsets; what a line means is known to core's journal alone.
2. Nothing is called safe before the disk has synced it, and a disk that failed once is not written again.
3. All access to the disk goes through one `Disk`, so that a test can break each single step, and simulate a crash on
   the code that is used in production.
"""

from batchrun.edge.append_file.append_file import AppendFile, Lines, SyncGroup
from batchrun.edge.append_file.disk import REAL_DISK, Disk
from batchrun.edge.append_file.distinct_files import is_same_file, refuse_shared
from batchrun.edge.append_file.file_names import FileNames
from batchrun.edge.append_file.opening import (
    OpenFile,
    expect_folder,
    expect_regular,
    open_append,
    open_to_read,
    read_chunks,
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
    "is_same_file",
    "keep_torn",
    "open_append",
    "open_to_read",
    "read_chunks",
    "refuse_shared",
    "rewrite",
    "set_aside",
    "write_whole",
]
