"""Refusals, in parts: what is concerned, what is wrong with it, and what to do. Whoever shows one words it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from batchrun.core.text.readable import Option, Part, Text, as_given, parts, worded


class Refusal(Exception):
    """Something cannot be used; `about` is an option, a variable or a path. `str` is the command's wording."""

    def __init__(self, problem: Text, remedy: Text = "", about: Option | str | None = None) -> None:
        super().__init__(problem, remedy, about)
        self.problem: Text = problem if about is None else (about, ": ", *parts(problem))
        self.remedy = remedy
        self.about = about

    @property
    def text(self) -> tuple[Part, ...]:
        """All of it; a remedy that begins with a line feed stands on lines of its own."""
        remedy = parts(self.remedy)
        joint = "" if not self.remedy else ":" if str(remedy[0]).startswith("\n") else "; "
        return (*parts(self.problem), joint, *remedy)

    def worded(
        self,
        variables: Collection[str] = (),
        named: Callable[[Part], str] = str,
        typed: Callable[[Part], str] = str,
    ) -> str:
        """One string. What is wrong is `named` as it was given, by one of `variables` perhaps; the rest is to be `typed`."""
        known = len(parts(self.problem))
        problem = worded(as_given(self.text[:known], variables), named)
        return problem + worded(self.text[known:], typed)

    def __str__(self) -> str:
        return self.worded()


class UsageError(Refusal, ValueError):
    """What the user set up cannot work: a flag, a variable or a file. Raised before anything is sent."""
