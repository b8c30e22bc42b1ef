"""batchrun's own HTTP transport: llhttp on asyncio's protocols, bytes in and bytes out.

Reading order: ``own_transport`` (whole responses, for the runner) or ``httpx_adapter`` (streamed ones, for any httpx
client); both build an `Exchange` and pass it to the ``pool``, which chooses or dials the ``connection`` that sends it and parses
the response.
"""

from batchrun.edge.transport.own_transport import OwnTransport

__all__ = ["OwnTransport"]
