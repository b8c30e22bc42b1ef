"""A disk in memory that remembers what was synced, and can be killed, cut off, or broken at any operation."""

import errno
import os
import stat
from collections import Counter

from batchrun.edge.append_file import Disk


class Crash(BaseException):
    """The process ends here; nothing of ours catches it."""


class _File:
    def __init__(self, number):
        self.number = number
        self.data = bytearray()
        self.durable = b""
        self.mode = 0o600


class PaperDisk:
    """`steps` counts the operations that change something; at number `stop` `trouble` is raised instead.

    `power_cut` leaves what was synced, names included, and `keep(unsynced)` of what was not.
    """

    def __init__(self, files=(), *, stop=None, trouble=Crash):
        self.names = {}
        self.durable_names = {}
        self.open_files = {}
        self.log = Counter()
        self.steps = 0
        self.stop = stop
        self.trouble = trouble
        self.inodes = 0
        for path, data in dict(files).items():
            self.names[path] = file = self._new_file()
            file.data[:] = file.durable = data
        self.durable_names = dict(self.names)

    def disk(self):
        return Disk(
            open=self._open,
            close=lambda number: self.open_files.pop(number) and None,
            read=lambda number, size, offset: bytes(self._at(number).data[offset : offset + size]),
            write=self._write,
            sync=self._sync,
            truncate=self._truncate,
            fchmod=lambda number, mode: setattr(self._at(number), "mode", mode),
            fstat=lambda number: self._stat(self._at(number)),
            lstat=lambda path: self._stat(self._named(path)),
            rename=self._rename,
            remove=self._remove,
            sync_folder=self._sync_folder,
        )

    def content(self):
        return {path: bytes(file.data) for path, file in self.names.items()}

    def kill(self):
        """The process is gone; the kernel still has all that was written."""
        self.open_files.clear()
        self.stop = None

    def power_cut(self, keep=lambda unsynced: b"", keep_name=lambda path: False, *, keep_cuts=False):
        """`keep_cuts`: a file that was shortened is short on the disk, though not synced since. `keep_name` says which names are on the disk although their folder was not synced: in any order, but a
        rename from PATH.new to PATH wholly or not at all."""
        self.kill()
        now, then = self.names, self.durable_names
        paths = sorted(now.keys() | then.keys())
        kept = {base: keep_name(base) for base in sorted({path.removesuffix(".new") for path in paths})}
        chosen = {path: (now if kept[path.removesuffix(".new")] else then).get(path) for path in paths}
        self.names = {path: file for path, file in chosen.items() if file is not None}
        self.durable_names = dict(self.names)
        for file in set(self.names.values()):
            written = bytes(file.data)
            if keep_cuts and file.durable.startswith(written):
                file.durable = written
            unsynced = written[len(file.durable) :] if written.startswith(file.durable) else b""
            file.data[:] = file.durable = file.durable + keep(unsynced)

    def _step(self, name):
        self.log[name] += 1
        self.steps += 1
        if self.steps == self.stop:
            raise self.trouble

    def _new_file(self):
        self.inodes += 1
        return _File(self.inodes)

    def _at(self, number):
        return self.open_files[number]

    def _named(self, path):
        try:
            return self.names[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "not there", path) from None

    def _stat(self, file):
        return os.stat_result((stat.S_IFREG | file.mode, file.number, 1, 1, 0, 0, len(file.data), 0, 0, 0))

    def _open(self, path, flags, mode):
        if path in self.names:
            if flags & os.O_EXCL:
                raise FileExistsError(errno.EEXIST, "is there", path)
        elif flags & os.O_CREAT:
            self._step("create")
            self.names[path] = self._new_file()
        number = max(self.open_files, default=2) + 1
        self.open_files[number] = self._named(path)
        return number

    def _write(self, number, data):
        # Half of it is there when it breaks.
        try:
            self._step("write")
        except BaseException:
            self._at(number).data += data[: len(data) // 2]
            raise
        self._at(number).data += data
        return len(data)

    def _sync(self, number):
        self._step("sync")
        file = self._at(number)
        file.durable = bytes(file.data)

    def _truncate(self, number, size):
        self._step("truncate")
        del self._at(number).data[size:]

    def _rename(self, old, new):
        self._step("rename")
        self.names[new] = self.names.pop(old)

    def _remove(self, path):
        self._named(path)
        self._step("remove")
        del self.names[path]

    def _sync_folder(self, path):
        self._step("sync_folder")
        self.durable_names = dict(self.names)
