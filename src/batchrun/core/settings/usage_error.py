"""What the user set up cannot work: said before anything is sent."""


class UsageError(ValueError):
    """A flag, a variable or a file says something that cannot be; the text names it and one next step."""
