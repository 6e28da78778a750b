"""The gRPC services and the gate in front of them."""
