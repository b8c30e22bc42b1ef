"""A script: a file of rows in, records out, failures told, and what to do about a Ctrl-C.

python samples/script.py samples/failures.jsonl        (on the simulated service: no key, no cost)
"""

import sys
from collections import Counter

import batchrun


def main(path: str) -> int:
    try:
        records = batchrun.run_sync(path, demo=True)
    except batchrun.Interrupted as stopped:
        print(stopped, file=sys.stderr)  # the same command resumes
        return 130
    except batchrun.Halted as halted:
        print(halted, file=sys.stderr)
        return 3

    print(records)
    for record in records.ok[:3]:
        print(f"{record.key}: {(record.text or '')[:60]}")
    for (state, code), rows in records.codes.most_common():
        print(f"{rows} rows ended as {state}: {code}")

    worth_it = Counter(record.error.retryable for record in records.failed if record.error is not None)
    print(f"{worth_it[True]} of the {len(records.failed)} failures are worth another attempt")
    try:
        for record in records:
            record.raise_for_state()
    except batchrun.errors.JobError as error:
        print(f"the first of them: {type(error).__name__}, {error.code}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
