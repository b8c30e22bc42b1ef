"""What the README says is printed from the code, or tried.  `pytest tests/test_readme.py --write-readme` mends it."""

import re
from pathlib import Path

import pytest

from tests.readme_blocks import BLOCKS

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


@pytest.mark.parametrize("name", BLOCKS)
def test_generated_blocks_are_up_to_date(name, request):
    text = README.read_text()
    fresh = BLOCK.sub(lambda m: f"{m[1]}{BLOCKS[m[2]]()}\n{m[3]}" if m[2] == name else m[0], text)
    if request.config.getoption("--write-readme"):
        README.write_text(fresh)
        return
    assert fresh == text, "the README is behind: pytest tests/test_readme.py --write-readme"


def test_every_block_in_the_readme_is_generated():
    assert {found[2] for found in BLOCK.finditer(README.read_text())} == set(BLOCKS)
