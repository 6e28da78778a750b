"""The compiled part: RocksDB with a compaction filter that consults the ban manifest.

``module`` is the extension; it exists where the libraries were there when the package was built. Only
``prefixdb/store/native.py`` imports it.
"""
