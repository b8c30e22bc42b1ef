"""A process that writes groups to an append file next to an event loop: PATH GROUPS LINES.  Prints what it was told as JSON.

Run by tests that break the disk below it.
"""

import asyncio
import json
import sys

from batchrun.edge.append_file import AppendFile, BatchFilesError, FileRefused, WriterThread, open_append


def main(path, groups, lines):
    message = {"synced": [], "failed": [], "refused": None}
    loop = asyncio.new_event_loop()

    def append_group():
        for _ in range(lines):
            file.append(b"x" * 99 + b"\n")

    def synced(upto):
        message["synced"].append(upto)
        if len(message["synced"]) < groups:
            append_group()
        else:
            loop.stop()

    def failed(error):
        message["failed"].append([error.step, error.offset, error.cause.errno, str(error)])
        loop.stop()

    try:
        file = AppendFile(open_append(path), synced=synced, failed=failed)
    except FileRefused as error:
        message["refused"] = str(error)
    else:
        writer = WriterThread(file, loop)
        append_group()
        loop.run_forever()
        if message["failed"]:
            try:
                file.append(b"more\n")
            except BatchFilesError as error:
                message["after"] = type(error).__name__
        writer.close()
    loop.close()
    sys.stdout.write(json.dumps(message))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
