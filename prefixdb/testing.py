"""A pytest fixture that starts a real server."""
