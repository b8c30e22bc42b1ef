"""The engine in a notebook or a program: the same files, the same promises as the command.

`calls` holds what people call; `batch` is a run that goes on; `rows` reads whatever they give; `place` says where
its files live. What is public stands in `batchrun` itself, and is imported when it is first used.
"""
