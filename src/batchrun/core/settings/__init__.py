"""The settings that command, environment and Python share.

- `settings`: all of them, with their help and their limits
- `parsing`: settings from flags, variables and Python values
- `secret`: an API key that does not show itself
- `usage_error`: what a user set up wrongly
"""
