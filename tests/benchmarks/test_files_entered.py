"""What a reader must open to follow one row, one poll, a resume and a cancel request: at most two thirds of the files
that it took at commit 4def7fb (61, 22, 84 and 8; `benchmarks/files_entered.py` says what is counted), and those of what
was built since: the times of polls and their pacing, limits that are learned, a service that cannot be reached (reach,
catch_up), that fails its jobs (breaker, breakers), or of which jobs never end (stalls, known_durations) and responses are
lost (resends)."""

import pytest

from benchmarks.files_entered import Trace, entered

AT_MOST = {"row": 40 + 5 + 6, "poll": 14 + 2, "resume": 56 + 3 + 7, "cancel request": 5}


@pytest.fixture(scope="module")
def files():
    return entered()


@pytest.mark.timeout(300)  # four runs of the command, every call of which is seen
@pytest.mark.parametrize("scenario", AT_MOST)
def test_a_reader_opens_two_thirds_of_the_files_that_it_once_took(files, scenario):
    found = files[scenario]
    told = f"{scenario}: entered {len(found)} files, at most {AT_MOST[scenario]} are wanted; merge what only passes on"
    assert len(found) <= AT_MOST[scenario], f"{told}:\n" + "\n".join(found)


def test_each_file_counts_once_and_only_where_one_of_its_functions_is_called(tmp_path, monkeypatch):
    package = tmp_path / "counted"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text("from counted import two\ndef call():\n    return two.call()\n")
    (package / "two.py").write_text("from counted import three\nthree.call()\ndef call():\n    return 2\n")
    (package / "three.py").write_text("def call():\n    return 3\n")  # called by an import alone
    monkeypatch.syspath_prepend(tmp_path)
    trace = Trace(str(package))
    trace.begin()
    try:
        from counted import one

        assert one.call() + one.call() == 4
    finally:
        trace.end()
    assert trace.counted == {"whole command": [["one.py", "two.py"]]}
