"""The asyncio client; the source from which ``prefixdb.client.sync`` is generated."""

from prefixdb.client.aio.batch import AsyncBatch
from prefixdb.client.aio.database import AsyncDatabase, connect_async
from prefixdb.client.aio.guardian import AsyncGuardian
from prefixdb.client.aio.pipeline import AsyncPipeline
from prefixdb.client.aio.transaction import AsyncTransaction

__all__ = ["AsyncBatch", "AsyncDatabase", "AsyncGuardian", "AsyncPipeline", "AsyncTransaction", "connect_async"]
