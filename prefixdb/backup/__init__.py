"""Backups, restores and imports, where they meet the store and the catalog; ``service`` puts them on the wire."""
