"""The folder of results that are files: how it is opened, how a file comes into it, and the threads that do it."""

from batchrun.edge.artifacts.folder import Folder, Writing, open_folder
from batchrun.edge.artifacts.writer import ArtifactWriter

__all__ = ["ArtifactWriter", "Folder", "Writing", "open_folder"]
