"""What differs between services: requests to build, responses to read.

- `profile`: a service as data, and the services that batchrun knows by name
- `choice`: which service a run uses, from flags and environment variables
- `of_batch`: which service a batch was started with, for the commands that take it up again
- `service`: builds requests and reads responses, as its profile says
- `idempotency`: the key by which a service knows a POST that is sent again
- `field_map`: responses with field names of the service's own
- `custom`: a profile from a user's TOML file
- `draft`: the profile that would read a response, as TOML
- `address`: base URLs and headers that a user sets

No service has code of its own. What a user set up wrongly is a `UsageError` before anything is sent, and its text shows
no secret. The package is pure: the environment comes in as a mapping, a profile as the table that a TOML parser made.
"""
