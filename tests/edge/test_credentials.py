"""API keys from a file that only its owner reads, and tokens from a command."""

import asyncio
import base64
import json
import os
import select
import shlex
import sys

import pytest

from batchrun.core.settings.settings import UsageError
from batchrun.edge.credentials import TokenCommand, read_key_file, read_token

KEY = "sk-canary-77c1e0aa5b"
NOW = 1_800_000_000.0


@pytest.fixture
def key_file(tmp_path):
    def write(content, mode=0o600):
        path = tmp_path / "key"
        path.write_bytes(content)
        path.chmod(mode)
        return path

    return write


@pytest.mark.parametrize("content", [KEY, KEY + "\n", KEY + "\r\n"])
def test_a_key_from_a_file(key_file, content):
    assert read_key_file(key_file(content.encode())).reveal() == KEY


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620])
def test_a_file_that_others_may_read_is_refused(key_file, mode):
    path = key_file(KEY.encode(), mode)
    with pytest.raises(UsageError, match=f"got {mode:04o}: others may read the API key; chmod 600 {path}"):
        read_key_file(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n", f"{KEY}\n{KEY}\n".encode(), b"\xff\xfe", "sk-ключ".encode(), KEY.encode() * 4_000]
)
def test_a_file_without_one_key_is_refused_and_not_quoted(key_file, content):
    with pytest.raises(UsageError) as caught:
        read_key_file(key_file(content))
    assert KEY not in str(caught.value)


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo", 0o600)
    for name, word in (("fifo", "a plain file"), ("missing", "cannot be opened: No such file"), (".", "a plain file")):
        with pytest.raises(UsageError, match=word):
            read_key_file(tmp_path / name)


# --- what a command prints ---


def jwt(**claims):
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.c2ln"


@pytest.mark.parametrize(
    ("printed", "token", "expires_at"),
    [
        ("abc", "abc", None),
        ("  abc\n", "abc", None),
        (jwt(exp=NOW + 3600), jwt(exp=NOW + 3600), NOW + 3600),
        (jwt(exp=NOW - 1), jwt(exp=NOW - 1), None),
        (jwt(exp="soon"), jwt(exp="soon"), None),
        ("a.b.c", "a.b.c", None),
        (json.dumps({"accessToken": "abc", "expires_on": NOW + 60, "expiresOn": "2027-01-01 00:00:00"}), "abc", NOW + 60),
        (json.dumps({"access_token": "abc", "expires_in": 3599}), "abc", NOW + 3599),
        (json.dumps({"access_token": "abc", "expires_on": str(int(NOW) + 9)}), "abc", NOW + 9),
        (json.dumps({"token": "abc", "expires_in": True, "expires_on": 1e300}), "abc", None),
        (json.dumps({"token": "abc", "expires_on": -(10**400)}), "abc", None),
    ],
)  # fmt: skip
def test_a_token_and_its_end(printed, token, expires_at):
    read = read_token(printed.encode(), NOW)
    assert (read.secret.reveal(), read.expires_at) == (token, expires_at)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize("kind", ["JSON", "JSON web token"])
def test_nesting_beyond_all_reason_is_an_error_of_the_command(kind, closed):
    nested = '{"a":' + "[" * 10_000 + ("]" * 10_000 + f',"token":"{KEY}"}}' if closed else "")
    if kind == "JSON web token":
        nested = f"e30.{base64.urlsafe_b64encode(nested[:12_000].encode()).decode()}.c2ln"
    with pytest.raises(UsageError, match=r"--token-command: expected .*; try it by hand") as caught:
        read_token(nested.encode(), NOW)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("printed", "word"),
    [("", "0 words"), (f"token: {KEY}", "2 words"), ('{"a": 1}', "accessToken"), (f'{{"token": "{KEY}', "broken JSON"), ('{"token": 5}', "accessToken"), (f'{{"token": "{KEY} x"}}', "a space")],
)  # fmt: skip
def test_what_is_no_token_is_refused_and_not_quoted(printed, word):
    with pytest.raises(UsageError, match=word) as caught:
        read_token(printed.encode(), NOW)
    assert KEY not in str(caught.value)


# --- when it runs ---


class Clock:
    now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def counting(tmp_path):
    """A command that prints another token at each run: `token-1`, `token-2`, …, with a life in seconds."""
    path = tmp_path / "count.py"
    path.write_text(
        "import json, pathlib, sys\n"
        f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "runs = int(count.read_text()) + 1 if count.exists() else 1\n"
        "count.write_text(str(runs))\n"
        "life = float(sys.argv[1])\n"
        "print(json.dumps({'token': f'token-{runs}', **({'expires_in': life} if life else {})}))\n"
    )
    clock = Clock()
    return lambda life: (TokenCommand(f"{sys.executable} '{path}' {life}", clock=clock), clock)


@pytest.mark.parametrize(
    ("life", "good_until"),
    [(3600, 3300.0), (400, 200.0), (0, 600.0)],
    ids=["five minutes before its end", "at half of a short life", "ten minutes where it says nothing"],
)
def test_a_token_is_renewed_before_its_end(counting, life, good_until):
    command, clock = counting(life)

    async def main():
        seen = []
        for age in (0.0, good_until - 1, good_until + 1, good_until + 2):
            clock.now = NOW + age
            seen.append((await command.current()).reveal())
        return seen

    assert asyncio.run(main()) == ["token-1", "token-1", "token-2", "token-2"]


def test_a_refused_token_is_renewed_once_for_all_who_ask(counting):
    command, _ = counting(3600)

    async def main():
        first = await command.current()
        renewed = await asyncio.gather(*(command.renewed(first) for _ in range(5)))
        return first.reveal(), {one.reveal() for one in renewed}, (await command.current()).reveal()

    assert asyncio.run(main()) == ("token-1", {"token-2"}, "token-2")


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("", "got nothing"),
        ("echo 'open", "no closing quotation"),
        ("no-such-command-anywhere", "cannot be run: No such file"),
        ("false", "exit code 1: it printed nothing; try it by hand"),
        (f"{sys.executable} -c 'import sys; sys.exit(\"log in\\n\\x1b[2J first\")'", r"log in \\x1b\[2J first"),
        ("echo a b c", "3 words"),
        ("echo $HOME; echo x", "3 words"),
    ],
)
def test_a_command_that_gives_no_token(command, word):
    with pytest.raises(UsageError, match=f"--token-command: .*{word}"):
        asyncio.run(TokenCommand(command).current())


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path):
    fifo = tmp_path / "fifo"  # held open for writing by the command's child for as long as it lives
    os.mkfifo(fifo, 0o600)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    child = "['sh', '-c', 'echo here; exec sleep 600']"
    script = f"import subprocess; subprocess.run({child}, stdout=open({str(fifo)!r}, 'w'))"
    for limit in (0.5, 3.0, 20.0):  # the next one where this machine did not start the child in time
        with pytest.raises(UsageError, match=rf"gave no token within {limit:g} s"):
            asyncio.run(TokenCommand(f'{sys.executable} -c "{script}"', limit=limit).current())
        if os.read(reader, 100) == b"here\n":
            break
    poll = select.poll()
    poll.register(reader)
    assert poll.poll(30_000)[0][1] & select.POLLHUP, "it has ended, and so has its child"
    os.close(reader)


def test_a_command_that_prints_without_end_is_cut():
    flood = f"{sys.executable} -c \"print('x' * 3_000_000)\""
    with pytest.raises(UsageError, match="more than 16,384"):
        asyncio.run(TokenCommand(flood).current())


# --- secrets in what is said ---


def test_a_path_that_is_a_key_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (KEY, "0123456789abcdef0123456789abcdef", "a" * 5_000 + KEY, f"{KEY}\0", f"{KEY}/x"):
        with pytest.raises(UsageError) as caught:
            read_key_file(value)
        error = caught.value
        assert "--key-file: expected the path of a file" in str(error)
        for one in (error, error.__context__, error.__cause__):
            assert value[-20:] not in f"{one}{one!r}"


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        (KEY, KEY),
        (json.dumps({"accessToken": KEY}), f"renewed {KEY}"),
        ("", "sk-proj-0123456789abcdef is no longer valid"),
        ("", "got eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"),
        ("", "client secret s3cret-of-the-environment refused"),
        (KEY, "".join(f"\\u{ord(char):04x}" for char in KEY)),
        (KEY, base64.b64encode(f"x:{KEY}".encode()).decode()),
    ],
)
def test_h12_what_a_failing_command_says_is_shown_without_secrets(printed, said, monkeypatch):
    monkeypatch.setenv("MY_CLIENT_SECRET", "s3cret-of-the-environment")
    script = "import sys; print(sys.argv[1]); sys.stderr.write('log in first: ' + sys.argv[2]); sys.exit(3)"
    command = shlex.join([sys.executable, "-c", script, printed, said])
    with pytest.raises(UsageError, match="exit code 3: log in first: ") as caught:
        asyncio.run(TokenCommand(command).current())
    secret = max(said.split(), key=len)
    assert secret not in str(caught.value)
    assert "[redacted]" in str(caught.value) or "[not shown" in str(caught.value)
