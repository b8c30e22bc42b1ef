"""batchrun's own wire: llhttp on asyncio's protocols, bytes in and bytes out.

``place`` says where to, ``writing`` makes a request's head, ``dialing`` a connection, ``connection`` carries one
exchange at a time, ``pool`` decides which goes where. Two doors lead in: ``own``, the wire of the seam, with an
answer taken whole; and ``transport``, which makes it a transport of httpx, piece by piece.
"""

from batchrun.edge.wire.own import OwnWire

__all__ = ["OwnWire"]
