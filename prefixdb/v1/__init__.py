"""Generated from ``proto/prefixdb/v1`` by ``make gen``; do not edit."""
