"""The settings that command, environment and Python share.

- `settings`: all of them, with their help and their limits; API keys, and what a user set up wrongly
- `parsing`: settings from flags, variables and Python values
"""
