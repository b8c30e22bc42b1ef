"""The record of a row: its line in the output.

- `record`: its fields, the record as bytes, and its JSON Schema
- `artifacts`: results that are files, such as images
- `artifact_names`: the names of these files
"""
