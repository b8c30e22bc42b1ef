"""The record of a row: its line in the output.

- `record`: the record as bytes
- `schema`: its JSON Schema
- `artifacts`: results that are files, such as images
- `artifact_names`: the names of these files
"""
