"""Text and numbers: shown safely, read as people and services write them.

- `readable`: text from outside, safe to show; times, sizes, counts and dates as people write them; messages with options
- `json_text`: JSON read leniently, checked, and edited without being written again
"""
