"""batchrun's HTTP transport for any program: ``httpx.AsyncClient(transport=batchrun.transport.Transport())``."""

from batchrun.edge.transport.httpx_adapter import Transport

__all__ = ["Transport"]
