"""batchrun's wire for any program: ``httpx.AsyncClient(transport=batchrun.transport.Transport())``."""

from batchrun.edge.wire.transport import Transport

__all__ = ["Transport"]
