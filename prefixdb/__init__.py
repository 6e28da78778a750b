"""prefixdb: thousands of isolated namespaces in one RocksDB, served over gRPC."""

__version__ = "0.1.0"
