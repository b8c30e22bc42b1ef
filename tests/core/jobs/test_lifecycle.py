import pytest

from batchrun.core.jobs import messages as m
from batchrun.core.jobs.job import Job, Row
from batchrun.core.jobs.lifecycle import OPEN_PHASES, TRANSITIONS, ImpossibleTransition, Phase, Step
from tests.core.driver import Driver, answer
from tests.doc_blocks import PHASE_MEANING, state_diagram, transition_table


def test_every_phase_is_reached_and_every_one_but_the_last_is_left():
    assert set(TRANSITIONS.values()) | {Phase.WAITING} == set(Phase)
    assert {phase for phase, _ in TRANSITIONS} | {Phase.FINISHED} == set(Phase)
    assert {step for _, step in TRANSITIONS} == set(Step)
    assert set(PHASE_MEANING) == set(Phase)


def test_from_every_phase_a_job_can_finish():
    reach = {Phase.FINISHED}
    while grown := {phase for (phase, _), target in TRANSITIONS.items() if target in reach} - reach:
        reach |= grown
    assert reach == set(Phase)


def test_a_job_is_never_submitted_but_from_a_synced_intent():
    assert {key for key, target in TRANSITIONS.items() if target is Phase.SUBMITTING} == {
        (Phase.INTENDING, Step.INTENT_SYNCED),
        (Phase.UNANSWERED, Step.TURN_TAKEN),
    }
    assert {source for (source, _), target in TRANSITIONS.items() if target is Phase.UNANSWERED} == {
        Phase.SUBMITTING,
        Phase.WAITING,
    }, "after a POST, in this run or an earlier one"
    assert [key for key, target in TRANSITIONS.items() if target is Phase.FINISHED] == [
        (Phase.ENDING, Step.RECORD_SYNCED)
    ]
    assert Phase.WAITING not in OPEN_PHASES


def test_every_transition_of_the_table_is_met_by_the_tests():
    """The table holds nothing that cannot happen: the runs here meet every arrow."""
    from batchrun.core.jobs.jobs import Jobs
    from tests.crash.idempotent import ForgetfulProcess
    from tests.crash.trials import Trials

    met, move = set(), Jobs.move

    def noting(self, job, step):
        met.add((job.phase, step))
        move(self, job, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Jobs, "move", noting)
        trials = Trials()
        for seed in range(12):
            trials.of_seed(seed, stride=15, phase=seed)
        kept = Trials(ForgetfulProcess)
        for seed in range(3):
            kept.of_seed(seed, stride=40, phase=seed)
        run = Driver(
            3,
            submit=lambda key, n: answer(
                200, {"id": f"j{n}{key}", "status": "failed", "error": {"code": "server_error"}}
            ),
        )
        run.run()
        overdue = Driver(1, deadline=5.0, poll=lambda job_id, n: answer(200, {"id": job_id, "status": "in_progress"}))
        overdue.run()
        stopped = Driver(3)
        stopped.feed(m.StopRequested(m.StopMode.DRAIN))
    missing = set(TRANSITIONS) - met
    # A withdrawal needs a stop between an intent and its sync: tests/core/engine/test_engine.py has it. Files that are left of
    # a row between two attempts need a service that takes its word back: tests/core/engine/test_artifacts.py has it.
    assert missing <= {
        (Phase.INTENDING, Step.WITHDRAWN),
        (Phase.INTENDING, Step.ENDED),
        (Phase.INTENDING, Step.FILES_FIRST),
        (Phase.WAITING, Step.FILES_FIRST),
        (Phase.UNANSWERED, Step.FILES_FIRST),  # the same
    }


def test_an_impossible_step_tells_the_jobs_story():
    run = Driver(1).run(until=0.05)
    job = run.engine.jobs.unsubmitted["row-0"]
    assert job.phase is Phase.SUBMITTING
    with pytest.raises(ImpossibleTransition, match=r"submitting cannot take the step 'poll due'.*key='row-0'"):
        run.engine.jobs.move(job, Step.POLL_DUE)
    assert "row-0" in repr(Job(Row("row-0")))


def test_table_and_diagram_are_printed_from_the_table():
    assert all(str(step) in transition_table() for step in Step)
    assert all(f"{phase} --> {target}" in state_diagram() for (phase, _), target in TRANSITIONS.items())
