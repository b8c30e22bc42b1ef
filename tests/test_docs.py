"""README and help topics: small enough, reachable, in plain words; their tables are generated, their commands run.

`pytest -n 0 tests/test_docs.py --write-docs` writes the generated tables and the screens again.
"""

import ast
import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from batchrun.cli.help import FOLDER, TOPICS, plain
from tests.console import Shell, commands_in, is_missing, same
from tests.doc_blocks import BLOCKS
from tests.e2e.stage import serving
from tests.terminal_picture import COMMAND, PICTURE, screen, svg
from tests.test_words import found_in

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *(FOLDER / f"{name}.md" for name in TOPICS)]
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
CODE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def code(page, kind):
    return [text.rstrip("\n") for language, text in CODE.findall(page.read_text()) if language == kind]


@pytest.mark.parametrize("name", BLOCKS)
def test_generated_blocks_are_up_to_date(name, request):
    (page,) = [page for page in PAGES if f"<!-- generated: {name} -->" in page.read_text()]
    text = page.read_text()
    fresh = BLOCK.sub(lambda m: f"{m[1]}{BLOCKS[m[2]]()}\n{m[3]}" if m[2] == name else m[0], text)
    if request.config.getoption("--write-docs"):
        page.write_text(fresh)
        return
    assert fresh == text, f"{page.name} is behind: pytest -n 0 tests/test_docs.py --write-docs"


@every_page
def test_every_block_that_says_so_is_generated(page):
    assert {found[2] for found in BLOCK.finditer(page.read_text())} <= set(BLOCKS)


def test_the_readme_fits_in_a_pocket():
    assert len(README.read_bytes()) <= 15_000


def test_every_topic_is_a_file_and_reachable_from_the_readme():
    assert {path.stem for path in FOLDER.glob("*.md")} == set(TOPICS)
    linked = re.findall(r"\(src/batchrun/help/([\w-]+)\.md\)", README.read_text())
    assert set(linked) == set(TOPICS)


@every_page
def test_links_lead_to_files_and_named_topics_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (page.parent / target).exists(), target
    assert set(re.findall(r"batchrun help ([a-z][\w-]*)", text)) <= set(TOPICS)


@pytest.mark.parametrize("name", TOPICS)
def test_a_topic_is_plain_text_of_80_columns(name):
    shown = plain((FOLDER / f"{name}.md").read_text())
    assert shown.startswith("# ")
    for line in shown.splitlines():
        assert len(line) <= 80 or line.startswith("  batchrun "), line  # a command to copy
        assert not line.startswith(("```", "<!--", "|", "![")), line
    assert "\n\n\n" not in shown


# --- Words: the patterns of test_words, for prose, screens and generated blocks alike ---

# Files of the examples and of the benchmarks, a key of the status, and verbs where a rate would be "per row".
NAMES = re.compile(r"/home/me|\banswers\.jsonl|\bwire\.(?:py|svg)|^lately |\b(?:submits a job|retries a row)\b")


@every_page
def test_the_words_are_those_of_the_field(page):
    for number, line in enumerate(page.read_text().splitlines(), 1):
        assert not (found := found_in(NAMES.sub("", line))), f"{page.name}:{number}: {line}: {found}"


# --- Commands and programs ---
#
# `console` shows commands with what they print, `sh` commands alone, `python` a program: all of them run here, the blocks
# of a page one after another in one folder. `bash` is for what a test must not do: install packages, start servers.


RUN = [page for page in PAGES if re.search(r"^```(console|sh|python)$", page.read_text(), re.MULTILINE)]


@pytest.mark.timeout(600)
def test_everything_that_the_pages_tell_people_to_type_runs(tmp_path, request):
    """All pages at once, as a run mostly waits."""
    write = request.config.getoption("--write-docs")
    with serving(tmp_path, "[times]\nduration = '300ms'\n") as service, ThreadPoolExecutor(6) as pool:
        wrong = pool.map(lambda page: list(typed(page, tmp_path / page.stem, service.url, write=write)), RUN)
        found = [problem for problems in wrong for problem in problems]
    assert not found, "\n\n".join(found)


def typed(page, folder, url, *, write):
    """Type all that the page shows; what did not go as it says."""
    (folder / "me").mkdir(parents=True)
    shell = Shell(folder / "me", ROOT / "samples", url)
    text = page.read_text()
    for language, block in CODE.findall(text):
        if language == "console":
            played = shell.play(block.rstrip("\n"))
            if write:
                text = text.replace(block, f"{played}\n")
                page.write_text(text)
            elif commands_in(played) != commands_in(block):
                yield f"{page.name} shows\n{block}\nand what is printed is\n{played}"
        elif language == "sh":
            for command in block.replace("\\\n", " ").splitlines():
                printed, ended = ("", 0) if is_missing(command) else shell.type(command)
                if ended not in (0, 1):
                    yield f"{page.name}: {command}\n{printed}"
    if programs := code(page, "python"):
        (folder / "programs.json").write_text(json.dumps(programs))
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, str(folder / "programs.json")],
            cwd=shell.folder, env=shell.environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        if done.returncode:
            yield f"{page.name}: {done.stdout}{done.stderr}"


RUNNER = """
import ast, asyncio, inspect, json, sys
async def main():
    names = {"__name__": "__main__"}
    for program in json.load(open(sys.argv[1])):
        run = eval(compile(program, "<page>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.isawaitable(run):
            await run
asyncio.run(main())
"""


@every_page
def test_every_program_can_be_read(page):
    for program in code(page, "python"):
        compile(program, page.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_picture_is_a_terminal_of_80_columns(request):
    """`--write-docs` draws it again."""
    if request.config.getoption("--write-docs") and shutil.which("tmux"):
        PICTURE.write_text(svg(screen()), encoding="utf-8")
    texts = [text.text for text in ET.parse(PICTURE).iter("{http://www.w3.org/2000/svg}text")]
    assert sum(text == f"$ {COMMAND}" for text in texts) == 2
    assert max(map(len, texts)) <= 80


# --- The tests of these tests ---


@pytest.mark.parametrize(
    ("shown", "actual", "is_same"),
    [
        ("complete: 20 of 20 rows done in 6.5 s", "complete: 18 of 19 rows done in 1 min 2 s", True),
        ("complete: 20 of 20 rows done", "halted: 20 of 20 rows done", False),
        ("a\n…\nz", "a\nb\nc\nz", True),
        ("a\n…\nz", "a\nb\nc", False),
        ("one line that\nwas wrapped", "one line that was\nwrapped", True),
        ("job resp_abc of row-1", "job resp_xyz12 of row-22", True),
        ("", "an error", False),
    ],
)
def test_a_screen_is_compared_by_its_words(shown, actual, is_same):
    assert same(shown, actual) is is_same
