"""What the demo, the benchmark, the crash tool and the system tests share: a server process and a bare gRPC client."""
