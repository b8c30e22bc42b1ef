"""A batch on real files with a service in this process: what was POSTed is counted row by row."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path

from batchrun.core.jobs.messages import Outcome
from batchrun.core.responses.http import Answer
from batchrun.core.rows.parse import BodyFlags
from batchrun.core.settings.settings import Settings
from batchrun.edge.append_file import FileNames
from batchrun.edge.source import check
from batchrun.runner.loop.runner import Runner
from batchrun.runner.opening.open import Identity, open_batch
from batchrun.services.choice import choose

KEY = "sk-canary-6f1f2d"
WALL = 1_800_000_000.0
QUICK = {"poll_min": 0.01, "poll_max": 0.02, "drain": 1.0, "cancel_settle": 0.05}


def row(name, text="x"):
    return json.dumps({"custom_id": name, "body": {"model": "gpt-5", "input": text}}) + "\n"


@dataclass
class Wire:
    """The service. It remembers its jobs from run to run, as the real one does."""

    jobs: dict = field(default_factory=dict)  # id -> prompt
    posts: list = field(default_factory=list)  # prompts, in order
    polls: list = field(default_factory=list)  # ids
    cancels: list = field(default_factory=list)  # ids
    status: str = "completed"
    before: object = None  # called with each request

    async def exchange(self, request, timeout):  # noqa: ASYNC109 - the seam's own law
        await asyncio.sleep(0)
        if self.before is not None:
            self.before(request)
        if request.path.endswith("/cancel"):
            self.cancels.append(request.path.split("/")[-2])
            return self.answer(self.cancels[-1], "cancelled")
        if request.method == "POST":
            prompt = json.loads(request.body)["input"]
            self.posts.append(prompt)
            job_id = f"resp_{len(self.posts)}_{prompt}"
            self.jobs[job_id] = prompt
            return self.answer(job_id, "queued")
        job_id = request.path.rpartition("/")[2]
        self.polls.append(job_id)
        if job_id not in self.jobs:
            return Answer(404, {}, b'{"error": {"message": "no such job"}}')
        return self.answer(job_id, "cancelled" if job_id in self.cancels else self.status)

    def answer(self, job_id, status):
        body = {"id": job_id, "object": "response", "status": status, "model": "gpt-5", "output": []}
        if status == "failed":
            body["error"] = {"code": "server_error", "message": "it broke"}
        return Answer(200, {"content-type": "application/json"}, json.dumps(body).encode())

    async def drop_idle(self):
        pass

    async def aclose(self):
        pass


class Observer:
    def __init__(self):
        self.said = []
        self.noted = self.said.append

    def progressed(self, snapshot):
        pass

    def halted(self, reason, message):
        self.said.append(message)

    def recorded(self, line):
        pass

    def saved(self, records):
        pass


@dataclass
class Night:
    """One output in `folder`, and the runs on it."""

    folder: Path
    wire: Wire = field(default_factory=Wire)
    base_url: str = "https://api.example.com/v1"
    key: str = KEY
    flags: BodyFlags = field(default_factory=BodyFlags)
    wall: float | None = None
    said: list = field(default_factory=list)
    batch: object = None

    @property
    def output(self):
        return self.folder / "out.jsonl"

    @property
    def journal(self):
        return self.folder / "out.jsonl.journal"

    @property
    def names(self):
        return FileNames.of(self.output)

    def rows(self, *rows, name="in.jsonl"):
        path = self.folder / name
        path.write_text("".join(rows))
        return path

    def service(self):
        return choose({"OPENAI_API_KEY": self.key}, service="compatible", base_url=self.base_url)

    def open(self, path=None, **given):
        """The batch, opened; the caller closes it."""
        service = self.service()
        told = service.identity()
        identity = Identity(
            service.name, f"{service.origin}{told['path']}", "", self.flags.to_dict(), service.key_fingerprint
        )
        path = path or self.folder / "in.jsonl"
        self.source = None if path == "collect" else check(path, self.flags)
        try:
            self.batch = open_batch(self.names, self.source, identity, self.settings(**given), wall=WALL)
        except BaseException:
            self.close()
            raise
        return self.batch

    def settings(self, **given):
        return Settings.of({**QUICK, **given})

    def close(self):
        if self.batch is not None:
            self.batch.close()
        if self.source is not None:
            self.source.close()

    def run(self, path=None, **given):
        """One run to its outcome."""
        batch = self.open(path, **given)
        try:
            observer = Observer()
            self.said = observer.said

            async def main():
                runner = Runner(
                    batch, self.source, self.service(), self.wire, self.settings(**given), observer, wall=self.wall
                )
                return await asyncio.wait_for(runner.run(), 50)

            return asyncio.run(main())
        finally:
            self.close()

    def complete(self, path=None, **given):
        assert self.run(path, **given) is Outcome.COMPLETE, self.said

    def records(self):
        lines = self.output.read_text().splitlines()
        records = {record["custom_id"]: record for record in map(json.loads, lines)}
        assert len(records) == len(lines), "one line a row"
        return records

    def states(self):
        return {key: record["state"] for key, record in self.records().items()}

    def snapshot(self):
        """Every file but the lock."""
        return {path.name: path.read_bytes() for path in self.folder.iterdir() if not path.name.endswith(".lock")}
