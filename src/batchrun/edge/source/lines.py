"""Blocks of bytes cut into lines, in memory that no line can exceed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def lines(blocks: Iterable[bytes], max_row: int, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Each line without its line feed, with its offset. `start` is the offset of the first block.

    Only LF ends a line: U+2028 and U+0085 may stand in strings, and a CR before it is white space to JSON.
    Of a line longer than `max_row` the first `max_row` + 1 bytes are kept, which tells it and holds no more.
    """
    offset = start
    held: list[bytes] = []  # the beginning of a line that continues in the next block
    size = kept = 0  # its bytes, and how many of them are in `held`
    for block in blocks:
        pieces = block.split(b"\n")
        last = pieces.pop()
        if size and pieces:
            first = pieces[0]
            length = size + len(first)
            held.append(first[: max_row + 1 - kept])
            yield offset, b"".join(held)
            offset += length + 1
            held, size, kept = [], 0, 0
            del pieces[0]
        for piece in pieces:
            yield offset, piece if len(piece) <= max_row else piece[: max_row + 1]
            offset += len(piece) + 1
        if last:
            cut = last[: max_row + 1 - kept]
            if cut:
                held.append(cut)
            size, kept = size + len(last), kept + len(cut)
    if size:
        yield offset, b"".join(held)
