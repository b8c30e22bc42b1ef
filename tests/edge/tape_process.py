"""A process that writes groups to a tape beside an event loop: PATH GROUPS LINES.  Prints what it was told as JSON.

Run by tests that break the disk below it.
"""

import asyncio
import json
import sys

from batchrun.edge.append_file import AppendFile, BatchFilesError, FileRefused, WriterThread, open_append


def main(path, groups, lines):
    told = {"synced": [], "failed": [], "refused": None}
    loop = asyncio.new_event_loop()

    def append_group():
        for _ in range(lines):
            tape.append(b"x" * 99 + b"\n")

    def synced(upto):
        told["synced"].append(upto)
        if len(told["synced"]) < groups:
            append_group()
        else:
            loop.stop()

    def failed(error):
        told["failed"].append([error.step, error.offset, error.cause.errno, str(error)])
        loop.stop()

    try:
        tape = AppendFile(open_append(path), synced=synced, failed=failed)
    except FileRefused as error:
        told["refused"] = str(error)
    else:
        scribe = WriterThread(tape, loop)
        append_group()
        loop.run_forever()
        if told["failed"]:
            try:
                tape.append(b"more\n")
            except BatchFilesError as error:
                told["after"] = type(error).__name__
        scribe.close()
    loop.close()
    sys.stdout.write(json.dumps(told))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
