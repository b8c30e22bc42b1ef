"""A demo id carries its job: a second service, which knows nothing, answers for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.core.responses.verdict import is_safe_id
from batchrun.simulator import DEMO
from batchrun.simulator.ids import demo_id, job_of_demo_id
from batchrun.simulator.jobs import CANCEL_BY_NUMBER, SimulatedJob
from batchrun.simulator.outcomes import JOB_OUTCOMES
from tests.simulator.bench import Bench

MOMENTS = (0.0, 0.5, 1.5, 3.0, 100.0)


@pytest.mark.parametrize(
    "prompt",
    [
        "plain",
        "[[fail server_error]]",
        "[[incomplete]]",
        "[[stuck_running]]",
        "[[image]]",
        "[[hidden 2]]",
        "[[queue 2]]",
    ],
)
def test_another_process_answers_alike(prompt):
    first, second = Bench(DEMO), Bench(DEMO)
    job = first.job(prompt, model="org/model:1")
    assert job.startswith("resp_demo_")
    assert is_safe_id(job)
    start = first.now
    for moment in MOMENTS:
        first.now = second.now = start + moment
        ours, theirs = (bench.ask("GET", f"/v1/responses/{job}") for bench in (first, second))
        assert (theirs.status, theirs.body) == (ours.status, ours.body)
    assert second.statistics.jobs == 0


def test_a_job_taken_in_can_be_cancelled_and_is_counted_as_open():
    first, second = Bench(DEMO), Bench(DEMO)
    job = first.job("[[sleep 60]]")
    assert second.status_after(0, job) in ("queued", "in_progress")
    assert second.statistics.open_jobs(second.now) == 1
    assert second.cancel(job).status == 200
    assert second.status_after(0, job) == "cancelled"
    assert second.statistics.open_jobs(second.now) == 0


@pytest.mark.parametrize("place", [12, 40, 70, -12, -1])
def test_a_damaged_id_is_not_found(place):
    bench = Bench(DEMO)
    job = bench.job()
    other = "b" if job[place] != "b" else "c"
    damaged = job[:place] + other + (job[place + 1 :] if place != -1 else "")
    assert bench.status_after(0, damaged) == "404"


def test_a_plain_service_does_not_take_demo_jobs_in():
    assert Bench("").status_after(0, Bench(DEMO).job()) == "404"


millis = st.integers(0, 2**31).map(lambda n: n / 1000)


@given(
    st.builds(
        SimulatedJob,
        created=st.integers(0, 4_000_000_000_000).map(lambda n: n / 1000), starts=millis, ends=millis, hidden=millis,
        row=st.integers(0, 2**64 - 1), nonce=st.integers(0, 2**32 - 1), input_tokens=st.integers(0, 2**32 - 1),
        output_tokens=st.integers(0, 2**32 - 1), outcome=st.sampled_from(sorted(JOB_OUTCOMES)),
        model=st.text(st.characters(codec="utf-8"), max_size=40), background=st.booleans(), id_changes=st.booleans(),
        cancel=st.sampled_from(CANCEL_BY_NUMBER),
    )
)  # fmt: skip
def test_every_job_comes_back_from_its_name(job):
    job = job._replace(starts=job.created + job.starts)
    job = job._replace(ends=job.starts + job.ends)
    name = demo_id(job)
    back = job_of_demo_id(name)
    assert is_safe_id(name.decode())
    assert back is not None
    times = slice(0, 4)
    assert back[times] == pytest.approx(job[times], abs=0.0011)
    assert back[4:] == job[4:]
