"""Text and numbers: shown safely, read as people and services write them.

- `readable`: text from outside, safe to show; times, sizes, counts and dates as people write them; messages with options
- `json_text`: JSON read as services send it, checked, and edited without being written again
- `escaped_copy`: what no strict parser reads, as JSON that each of them does
"""
