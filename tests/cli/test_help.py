"""`batchrun help`: lists the topics, shows one, and says what a wrong name may have meant."""

import pytest

from batchrun.cli import COMMANDS, main
from batchrun.cli.help import TOPICS, plain


def test_without_a_topic_all_are_listed_in_80_columns(capsys):
    assert main(["help"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(TOPICS)
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("typed", ["exit-codes", "Exit_Codes", "exit-codes.md"])
def test_a_topic_is_shown_however_it_is_spelled(typed, capsys):
    assert main(["help", typed]) == 0
    assert capsys.readouterr().out.startswith("# Exit codes\n\n  0  ")


@pytest.mark.parametrize(
    ("typed", "remedy"),
    [
        ("recrods", "did you mean records?"),
        ("serve", "batchrun serve --help explains the command"),
        ("qwertz", "batchrun help lists all topics"),
        ("x\x1b[2J", "batchrun help lists all topics"),
    ],
)
def test_an_unknown_topic_is_answered_in_a_line_with_what_works(typed, remedy, capsys):
    assert main(["help", typed]) == 2
    err = capsys.readouterr().err
    assert err.endswith(f"is not a topic; {remedy}\n")
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_the_command_is_one_of_those_that_the_help_names():
    assert "help" in COMMANDS


def test_what_only_a_browser_shows_is_left_out():
    page = """# A

<!-- generated: x -->
```text
of a table
```
<!-- end -->

![a picture](a.svg)

```mermaid
a --> b
```

```console
$ echo hello
hello
```
"""
    assert plain(page) == "# A\n\n  of a table\n\n$ echo hello\nhello\n"
