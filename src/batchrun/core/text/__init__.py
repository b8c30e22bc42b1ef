"""Text and numbers: shown safely, read as people and services write them.

- `printable`: text from outside, safe to show or to put into a path
- `units`: times, sizes and counts as people write them
- `dates`: seconds since 1970 as ISO 8601 and HTTP dates
- `json_text`: JSON read leniently, checked, and edited without being written again
"""
