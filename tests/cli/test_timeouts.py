"""Timeouts that a profile sets, with a service that takes a POST and never answers."""

import json
import socket
import tomllib

import pytest

from batchrun.cli import main
from batchrun.core.settings.settings import Settings
from batchrun.runner.session import with_timeouts_of
from batchrun.services.choice import choose
from batchrun.services.custom import read_profile
from tests.services.test_custom import SAMPLE

PROFILE = """
name = "silent"
base_url = "http://127.0.0.1:{port}"

[endpoints]
at_once = ["/previews"]

[timeouts]
synchronous_submit = {timeout}
"""


@pytest.fixture
def silent():
    with socket.create_server(("127.0.0.1", 0)) as listening:  # the kernel takes connections; nobody reads them
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("of_profile", "flags", "variable", "seconds"),
    [(1, (), None, "1"), (9, ("--answer-timeout", "1.5"), None, "1.5"), (9, (), "1.25", "1.25")],
    ids=["profile", "flag", "variable"],
)
def test_a_post_ends_by_the_profiles_timeout_unless_a_flag_or_a_variable_says_otherwise(
    silent, of_profile, flags, variable, seconds, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    if variable is not None:
        monkeypatch.setenv("BATCHRUN_ANSWER_TIMEOUT", variable)
    (tmp_path / "silent.toml").write_text(PROFILE.format(port=silent, timeout=of_profile))
    (tmp_path / "in.jsonl").write_text(json.dumps({"custom_id": "a", "url": "/previews", "body": {"model": "m"}}))
    main(["in.jsonl", "-o", "out.jsonl", "--service", "silent.toml", *flags])
    capsys.readouterr()
    (record,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert record["state"] == "unconfirmed"
    assert f"no complete response within {seconds} s" in record["error"]["message"]


def test_a_profile_sets_every_timeout_but_those_that_were_given():
    sample = choose({"RENDER_API_KEY": "k"}, service=read_profile(tomllib.loads(SAMPLE.read_text()), "profile.toml"))
    settings = Settings.of(with_timeouts_of(sample, {"poll_timeout": 7.0, "rpm": 60.0}))
    assert (settings.submit_timeout, settings.answer_timeout) == (60.0, 300.0)
    assert (settings.poll_timeout, settings.cancel_timeout, settings.rpm) == (7.0, 15.0, 60.0)
    assert with_timeouts_of(choose({"OPENAI_API_KEY": "k"}), {"rpm": 60.0}) == {"rpm": 60.0}
