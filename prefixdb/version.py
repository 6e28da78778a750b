"""The version of this prefixdb, where every layer can read it without importing a client."""

VERSION = "0.1.0"
