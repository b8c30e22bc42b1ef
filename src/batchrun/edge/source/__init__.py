"""The input: checked as a whole, then read row by row, and again by ordinal for each attempt.

    with check("in.jsonl", flags, spool="out.jsonl.input", output="out.jsonl") as source:
        if source.report.problems.total and not skip_bad: ...   # nothing was sent
        source.keep()
        for row in source.rows(): ...
        prepared = source.body(row.ordinal)

Invariants:

1. Memory does not grow with the size of rows, and by less than 40 bytes with each of them (`Index`).
2. Everything that is read again is held to what the check saw; a changed line is an error, never a request.
3. Bytes are sent as they are: what is sent is cut from the line, not encoded again (`core.text.json_text`).
"""

from batchrun.edge.source.check import MAX_ROW, check
from batchrun.edge.source.checked import Checked, Growing
from batchrun.edge.source.opening import InputChanged, InputFileError, InputRefused, SpoolFailed
from batchrun.edge.source.report import InputFindings, Report
