"""A process that takes the lock at PATH, says so on one line as JSON, and holds it until its stdin ends."""

import json
import sys

from batchrun.edge import lock as lock_room
from batchrun.edge.lock import Lock, LockHeld

lock_room._TRIES = 10_000  # who has the lock may be kept from writing its number by a busy machine

try:
    lock = Lock.take(sys.argv[1])
    message = {"held": True}
except LockHeld as error:
    message = {"held": False, "pid": error.pid, "text": str(error)}
sys.stdout.write(json.dumps(message) + "\n")
sys.stdout.flush()
sys.stdin.read()
