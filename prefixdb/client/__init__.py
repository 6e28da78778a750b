"""The Python client: ``aio`` is the source, ``sync`` is generated from it."""
