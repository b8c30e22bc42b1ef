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

from batchrun.core.text.units import many
from batchrun.edge.append_file.opening import OpenFile
from batchrun.edge.append_file.refusals import AppendFailed, AppendFileClosed, Step

# A group larger than this (a single line may be) is not gathered: its bytes are copied once to be written whole.
GROUP_BYTES = 8 << 20


class SyncGroup:
    """Whole lines of a tape from offset `start` to `end`, written and synced as one.

    `error` is what went wrong, and stays None while all is well.
    """

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
                cause = FileNotFoundError("the path leads to another file, or to none")
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
        """Close the file that the group went to, where its tape was abandoned meanwhile."""
        self._file.close()

    def _fail(self, step: Step, cause: Exception) -> None:
        self.error = AppendFailed(self._file.path, step, self.start, cause)
        with suppress(Exception):
            self._file.disk.truncate(self._file.descriptor, self.start)


class AppendFile:
    """An append file with group commit. Lines are given whole, with their line feed.

    `synced(upto)` and `failed(error)` are called by `settle`; `wake()` is called once when something has
    gathered that wants a sync and nothing is under way. `mark(to)` makes the line put first in each group;
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
        self._forming: deque[tuple[int, list[bytes]]] = deque()  # groups to come: start, lines
        self._forming_bytes = 0  # of the last of them
        self._under_way: SyncGroup | None = None
        self._woken = False
        self._failure: AppendFailed | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "failed" if self._failure else "closed" if self._closed else "open"
        return f"<Tape {self._file.path} {state}, synced to {self._synced_to} of {self._end}>"

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
        """The offset at which `line` will stand. It is safe once `synced(upto)` was called with more than that.

        Raises TapeFailed or TapeClosed; the line is then not taken.
        """
        offset = self._take(line)
        self._wanted_to = self._end
        self._wake_if_wanted()
        return offset

    def append_lazily(self, line: bytes) -> int:
        """As `append`, for a line that nobody waits for: it goes with the next group and starts none."""
        offset = self._take(line)
        self._wake_if_wanted()  # where it filled a group
        return offset

    def flush(self) -> None:
        """Want everything synced that was appended, lazily or not; it is reported as ever."""
        self._wanted_to = self._end
        self._wake_if_wanted()

    def gather(self) -> SyncGroup | None:
        """The next group to be written; None where nothing wants it or one is under way."""
        self._woken = False
        if self._closed or not self._wants():
            return None
        start, lines = self._forming.popleft()
        self._under_way = SyncGroup(self._file, start, lines[0] if len(lines) == 1 else b"".join(lines))
        return self._under_way

    def settle(self, group: SyncGroup) -> None:
        """Take note of what became of `group`, and report it. A group of an abandoned tape is dropped."""
        if group is not self._under_way:
            return
        self._under_way = None
        if self._failure is not None:  # cut meanwhile: what the group holds counts no more
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
        """Gather, write, sync and settle one group, here and now; whether there was one that came through."""
        group = self.gather()
        if group is None:
            return False
        group.write()
        group.sync()
        self.settle(group)
        return group.error is None

    def look(self) -> None:
        """Fail where the file no longer holds what was synced: someone else has cut it."""
        if self._failure is None and not self._closed and (found := self._file.length()) < self._synced_to:
            cause = EOFError(f"it holds {many(found, 'byte')}: something else cut it")
            self._fail(AppendFailed(self.path, "cut", self._synced_to, cause))

    def close(self) -> None:
        """Write and sync all that was appended, here and now, and close the file. An error is reported as ever."""
        if self._closed:
            return
        self._wanted_to = self._end
        while self.commit():
            pass
        self.look()
        if self._failure is None and self._file.is_replaced():
            cause = FileNotFoundError("the path leads to another file, or to none")
            self._fail(AppendFailed(self.path, "replaced", self._synced_to, cause))
        self.abandon()

    def abandon(self) -> None:
        """Drop what has gathered and report nothing more. The file is closed, unless a group is under way: then
        whoever carries it closes the file after it (`Group.close_file`)."""
        if self._closed:
            return
        self._closed = True
        self._forming.clear()
        if self._under_way is None:
            self._file.close()
        self._under_way = None

    def _take(self, line: bytes) -> int:
        if self._failure is not None:
            raise self._again(self._failure)
        if self._closed:
            raise AppendFileClosed(
                f"{self.path}: expected no append after the tape was closed; this is a bug in batchrun"
            )
        size = len(line)
        if line.find(b"\n") != size - 1 or not size:
            raise ValueError(f"expected one line with its line feed at the end, got {line[:40]!r}; encode it first")
        if not self._forming or self._forming_bytes + size > GROUP_BYTES:
            self._begin_group()
        offset = self._end
        self._forming[-1][1].append(line)
        self._forming_bytes += size
        self._end = offset + size
        return offset

    def _begin_group(self) -> None:
        # The group begins where all groups before it end, and they are synced before it is written.
        first = [] if self._mark is None else [self._mark(self._end)]
        if self._forming:
            self._wanted_to = self._end  # a full group waits for nobody
        self._forming.append((self._end, first))
        self._forming_bytes = sum(map(len, first))
        self._end += self._forming_bytes

    def _wants(self) -> bool:
        # _wanted_to may lie within the marks' reach only where a line stands there, so forming is not empty.
        return self._under_way is None and self._failure is None and self._wanted_to > self._synced_to

    def _wake_if_wanted(self) -> None:
        if not self._woken and self.wake is not None and not self._closed and self._wants():
            self._woken = True
            self.wake()

    def _fail(self, error: AppendFailed) -> None:
        error.lost = self._end - self._synced_to
        self._failure = error
        self._forming.clear()
        self._failed(error)

    @staticmethod
    def _again(first: AppendFailed) -> AppendFailed:
        # A fresh one each time: a raised exception keeps the frames it went through.
        return AppendFailed(first.path, first.step, first.offset, first.cause, first.lost)


class Lines:
    """The lines that the engine of this process gives to one file, in order.

    `safe(count)` is called with the number of lines that are on the disk, whenever there are more of them;
    the other arguments are those of the `AppendFile`, which is there as `tape` to be driven and closed.
    A line that the engine does not know of (the journal's header, `started`) is appended to `tape` itself.
    """

    def __init__(
        self,
        file: OpenFile,
        *,
        safe: Callable[[int], object],
        failed: Callable[[AppendFailed], object],
        mark: Callable[[int], bytes] | None = None,
        wake: Callable[[], object] | None = None,
    ) -> None:
        self.tape = AppendFile(file, synced=self._synced, failed=failed, mark=mark, wake=wake)
        self.count = 0
        self._safe = safe
        self._offsets: deque[int] = deque()  # of the lines that are not safe yet

    def give(self, line: bytes, *, lazy: bool = False) -> None:
        """Append `line`; a lazy one is not synced for its own sake. Raises TapeFailed or TapeClosed: it is not taken."""
        tape = self.tape
        self._offsets.append(tape.append_lazily(line) if lazy else tape.append(line))

    def _synced(self, upto: int) -> None:
        offsets = self._offsets
        before = len(offsets)
        while offsets and offsets[0] < upto:
            offsets.popleft()
        if len(offsets) < before:
            self.count += before - len(offsets)
            self._safe(self.count)
