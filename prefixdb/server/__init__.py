"""The server process: configuration, wiring, life cycle, audit, logs, metrics."""
