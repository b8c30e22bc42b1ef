"""The folder of results that are files: `folder` opens it and writes files into it, `writer` does so in threads."""

from batchrun.edge.artifacts.folder import Folder, JobFiles, open_folder
from batchrun.edge.artifacts.writer import ArtifactWriter

__all__ = ["ArtifactWriter", "Folder", "JobFiles", "open_folder"]
