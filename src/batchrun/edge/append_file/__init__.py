"""Files that survive a crash: append files, and the few operations that replace or repair them.

Reading order: `file_names` (a batch's paths), `opening` (errors, the disk, torn tails), `append_file` (group commit),
`writer_thread` (the same next to an event loop), `rewrite` (replace or move files), `distinct_files`.

Invariants:

1. It knows bytes, lines and offsets; what a line means is known to core's journal alone.
2. Nothing is called safe before the disk has synced it, and a disk that failed once is not written again.
3. All access to the disk goes through one `Disk`, so that a test can break each single step, and simulate a crash on
   the code that is used in production.
"""

from batchrun.edge.append_file.append_file import AppendFile, Lines, SyncGroup
from batchrun.edge.append_file.distinct_files import is_same_file, refuse_shared
from batchrun.edge.append_file.file_names import FileNames
from batchrun.edge.append_file.opening import (
    REAL_DISK,
    AppendFailed,
    AppendFileClosed,
    BatchFilesError,
    Disk,
    FileRefused,
    InputIsOutput,
    OpenFile,
    cut_torn,
    expect_folder,
    expect_own_folder,
    expect_regular,
    keep_torn,
    open_append,
    open_to_read,
    read_chunks,
)
from batchrun.edge.append_file.rewrite import rewrite, set_aside, write_whole
from batchrun.edge.append_file.writer_thread import WriterThread
