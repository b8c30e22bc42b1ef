"""One append file, written in groups: many lines share one write and one sync.

Invariants:

1. An append costs no I/O. Lines gather in memory; a group of them is written and synced as one, and what
   gathers meanwhile is the next group. Only one group is being written at a time.
2. What was synced is reported once per group, by `synced(upto)`: every line that begins before `upto` is safe.
   It is called from `settle`, never from within an append.
3. The first error is the last. After a failed write or sync the file is cut back, once, to where it was known to be
   good; nothing else is tried: a sync that is repeated after a failure can report success for pages that the kernel
   has dropped (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020). `failed` reports
   it once, and every later append raises.
4. An AppendFile belongs to one thread. Only the methods of a `SyncGroup` that has been gathered may be called
   in another: they touch the file and nothing of the AppendFile.

It knows no event loop and no thread. `WriterThread` drives it next to a loop; a simulator, or an operation that
may block, takes the same steps itself: `gather`, the group's `write` and `sync`, `settle`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from batchrun.core.text.readable import many
from batchrun.edge.append_file.opening import AppendFailed, AppendFileClosed, OpenFile, Step

# A group larger than this (a single line may be) is not gathered: its bytes are copied once to be written whole.
GROUP_BYTES = 8 << 20


class SyncGroup:
    """Whole lines of a file from offset `start` to `end`, written and synced as one; `error` is None or why not."""

    __slots__ = ("_file", "data", "end", "error", "start")

    def __init__(self, file: OpenFile, start: int, data: bytes) -> None:
        self._file = file
        self.start = start
        self.end = start + len(data)
        self.data = data
        self.error: AppendFailed | None = None

    def write(self) -> None:
        """Write the group, unless the path leads to another file by now."""
        try:
            if self._file.is_replaced():
                cause = FileNotFoundError("the path now leads to another file, or to none")
                self.error = AppendFailed(self._file.path, "replaced", self.start, cause)
                return
            self._file.disk.write_all(self._file.descriptor, self.data)
        except Exception as error:  # noqa: BLE001 - whatever it was, the bytes are not on the disk
            self._fail("write", error)

    def sync(self) -> None:
        """Sync the file; nothing where the write failed."""
        if self.error is None:
            try:
                self._file.disk.sync(self._file.descriptor)
            except Exception as error:  # noqa: BLE001 - as above
                self._fail("sync", error)

    def close_file(self) -> None:
        """Close the file, where its AppendFile was abandoned while the group was written."""
        self._file.close()

    def _fail(self, step: Step, cause: Exception) -> None:
        self.error = AppendFailed(self._file.path, step, self.start, cause)
        with suppress(Exception):
            self._file.disk.truncate(self._file.descriptor, self.start)


class AppendFile:
    """An append file with group commit. Lines are whole, with their line feed.

    `synced(upto)` and `failed(error)` are called by `settle`; `wake()` is called once when lines have
    gathered that want a sync and no group is being written. `mark(to)` returns the first line of each group;
    everything before the offset `to` is known to be synced.
    """

    def __init__(
        self,
        file: OpenFile,
        *,
        synced: Callable[[int], object],
        failed: Callable[[AppendFailed], object],
        mark: Callable[[int], bytes] | None = None,
        wake: Callable[[], object] | None = None,
    ) -> None:
        self.wake = wake
        self._file = file
        self._synced = synced
        self._failed = failed
        self._mark = mark
        self._end = self._synced_to = self._wanted_to = file.size
        self._gathering: deque[tuple[int, list[bytes]]] = deque()  # next groups: start, lines
        self._gathering_bytes = 0  # of the last of them
        self._writing: SyncGroup | None = None
        self._woken = False
        self._failure: AppendFailed | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "failed" if self._failure else "closed" if self._closed else "open"
        return f"<AppendFile {self._file.path} {state}, synced to {self._synced_to} of {self._end}>"

    @property
    def path(self) -> str:
        return self._file.path

    @property
    def end(self) -> int:
        """The offset after the last line that was appended."""
        return self._end

    @property
    def synced_to(self) -> int:
        """Everything before this offset is safe."""
        return self._synced_to

    @property
    def failure(self) -> AppendFailed | None:
        return self._failure

    def append(self, line: bytes) -> int:
        """The offset at which `line` will be written. It is safe once `synced(upto)` was called with more than that.

        Raises AppendFailed or AppendFileClosed; the line is then not appended.
        """
        offset = self._take(line)
        self._wanted_to = self._end
        self._wake_if_wanted()
        return offset

    def append_lazily(self, line: bytes) -> int:
        """As `append`, for a line that nothing waits for: it is written with the next group and starts none."""
        offset = self._take(line)
        self._wake_if_wanted()  # if it filled a group
        return offset

    def flush(self) -> None:
        """Request a sync of everything appended, lazily or not; it is reported as usual."""
        self._wanted_to = self._end
        self._wake_if_wanted()

    def gather(self) -> SyncGroup | None:
        """The next group to be written; None where nothing wants a sync or a group is being written."""
        self._woken = False
        if self._closed or not self._wants_sync():
            return None
        start, lines = self._gathering.popleft()
        self._writing = SyncGroup(self._file, start, lines[0] if len(lines) == 1 else b"".join(lines))
        return self._writing

    def settle(self, group: SyncGroup) -> None:
        """Report the result of `group`. A group of an abandoned file is dropped."""
        if group is not self._writing:
            return
        self._writing = None
        if self._failure is not None:  # the file was cut meanwhile: the group does not count
            return
        if group.error is not None:
            self._fail(group.error)
            return
        self._synced_to = group.end
        try:
            self._synced(group.end)
        finally:
            self._wake_if_wanted()

    def commit(self) -> bool:
        """Gather, write, sync and settle one group now; whether one was synced."""
        group = self.gather()
        if group is None:
            return False
        group.write()
        group.sync()
        self.settle(group)
        return group.error is None

    def check_length(self) -> None:
        """Fail where the file is shorter than what was synced: something else has cut it."""
        if self._failure is None and not self._closed and (length := self._file.length()) < self._synced_to:
            cause = EOFError(f"it holds {many(length, 'byte')}: something else cut it")
            self._fail(AppendFailed(self.path, "cut", self._synced_to, cause))

    def close(self) -> None:
        """Write and sync all that was appended, now, and close the file. An error is reported as usual."""
        if self._closed:
            return
        self._wanted_to = self._end
        while self.commit():
            pass
        self._write_last_mark()
        self.check_length()
        if self._failure is None and self._file.is_replaced():
            cause = FileNotFoundError("the path now leads to another file, or to none")
            self._fail(AppendFailed(self.path, "replaced", self._synced_to, cause))
        self.abandon()

    def abandon(self) -> None:
        """Drop what has gathered and report nothing more. The file is closed, unless a group is being written: then
        its writer closes the file afterwards (`SyncGroup.close_file`)."""
        if self._closed:
            return
        self._closed = True
        self._gathering.clear()
        if self._writing is None:
            self._file.close()
        self._writing = None

    def _write_last_mark(self) -> None:
        """End with a mark: lines of the last group that somebody removes later are missed too. Nothing is lost without it,
        so that it is not synced, and a failure is none."""
        if self._mark is not None and self._failure is None and self._synced_to > self._file.size:
            SyncGroup(self._file, self._end, self._mark(self._end)).write()

    def _take(self, line: bytes) -> int:
        if self._failure is not None:
            # A new one each time: a raised exception keeps the frames it went through.
            first = self._failure
            raise AppendFailed(first.path, first.step, first.offset, first.cause, first.lost)
        if self._closed:
            raise AppendFileClosed(
                f"{self.path}: expected no append after the file was closed; this is a bug in batchrun"
            )
        size = len(line)
        if line.find(b"\n") != size - 1 or not size:
            raise ValueError(f"expected one line with its line feed at the end, got {line[:40]!r}; encode it first")
        if not self._gathering or self._gathering_bytes + size > GROUP_BYTES:
            self._start_group()
        offset = self._end
        self._gathering[-1][1].append(line)
        self._gathering_bytes += size
        self._end = offset + size
        return offset

    def _start_group(self) -> None:
        # All groups before it end where it begins, and they are synced before it is written.
        first = [] if self._mark is None else [self._mark(self._end)]
        if self._gathering:
            self._wanted_to = self._end  # a full group is written without waiting for more
        self._gathering.append((self._end, first))
        self._gathering_bytes = sum(map(len, first))
        self._end += self._gathering_bytes

    def _wants_sync(self) -> bool:
        # _wanted_to is past _synced_to only after an append, so _gathering is not empty.
        return self._writing is None and self._failure is None and self._wanted_to > self._synced_to

    def _wake_if_wanted(self) -> None:
        if not self._woken and self.wake is not None and not self._closed and self._wants_sync():
            self._woken = True
            self.wake()

    def _fail(self, error: AppendFailed) -> None:
        error.lost = self._end - self._synced_to
        self._failure = error
        self._gathering.clear()
        self._failed(error)


class Lines:
    """An AppendFile that reports the number of synced lines instead of offsets.

    The engine numbers the lines that it appends from 1, since it cannot know their offsets; marks between them are not
    counted. `safe(count)` is called whenever more lines are on the disk; the other arguments are those of `AppendFile`,
    which is there as `file` to be driven and closed. A line that the engine does not know of (the journal's header,
    `started`) is appended to `file` itself.
    """

    def __init__(
        self,
        open_file: OpenFile,
        *,
        safe: Callable[[int], object],
        failed: Callable[[AppendFailed], object],
        mark: Callable[[int], bytes] | None = None,
        wake: Callable[[], object] | None = None,
    ) -> None:
        self.file = AppendFile(open_file, synced=self._synced, failed=failed, mark=mark, wake=wake)
        self.count = 0
        self._safe = safe
        self._offsets: deque[int] = deque()  # of the lines that are not safe yet

    def append(self, line: bytes, *, lazy: bool = False) -> None:
        """Append `line`; a lazy one starts no sync. Raises AppendFailed or AppendFileClosed: then it is not appended."""
        self._offsets.append(self.file.append_lazily(line) if lazy else self.file.append(line))

    def _synced(self, upto: int) -> None:
        offsets = self._offsets
        before = len(offsets)
        while offsets and offsets[0] < upto:
            offsets.popleft()
        if len(offsets) < before:
            self.count += before - len(offsets)
            self._safe(self.count)
