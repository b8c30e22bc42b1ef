"""batchrun's own wire: llhttp on asyncio's protocols, bytes in and bytes out.

Two doors lead in: ``own``, the wire of the seam, with an answer taken ``whole`` by one deadline; and ``transport``,
which makes it a transport of httpx, with an answer ``streamed`` by limits of inactivity. Both are an ``exchange``
to the ``pool``, which decides on which ``connection`` it goes; ``answering`` is the half of a connection that reads
HTTP. ``place`` says where to, ``writing`` makes a request's head, ``dialing`` a connection, ``sessions`` remembers
TLS, ``deadlines`` keeps time.
"""

from batchrun.edge.transport.own_transport import OwnTransport

__all__ = ["OwnTransport"]
