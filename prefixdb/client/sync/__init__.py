# Generated from prefixdb/client/aio/__init__.py by tools/async_to_sync.py; do not edit.
"""The threads' client; generated from ``aio``."""

from prefixdb.client.sync.batch import Batch
from prefixdb.client.sync.database import Database, connect
from prefixdb.client.sync.guardian import Guardian
from prefixdb.client.sync.pipeline import Pipeline
from prefixdb.client.sync.transaction import Transaction

__all__ = ["Batch", "Database", "Guardian", "Pipeline", "Transaction", "connect"]
