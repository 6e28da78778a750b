"""The standard services beside our own: health for load balancers, reflection for tools."""

from __future__ import annotations

from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from prefixdb.service.methods import Handler

Handlers = dict[str, Handler]


class _Collector:
    """Stands in for a server while generated code registers handlers, and keeps them by full path."""

    def __init__(self) -> None:
        self.handlers: Handlers = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: object) -> None:
        """Ignore: the same handlers come once more, by name."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Handlers) -> None:
        """Keep the handlers."""
        self.handlers |= {f"/{service_name}/{name}": handler for name, handler in method_handlers.items()}


class Health:
    """The state a load balancer sees, of the server as a whole and of each service."""

    def __init__(self, services: tuple[str, ...]) -> None:
        self._servicer = HealthServicer()
        self._services = ("", *services)

    async def set_serving(self, serving: bool) -> None:
        """Tell everyone who asks or watches."""
        states = health_pb2.HealthCheckResponse
        for service in self._services:
            await self._servicer.set(service, states.SERVING if serving else states.NOT_SERVING)

    async def leave(self) -> None:
        """Say NOT_SERVING for good."""
        await self._servicer.enter_graceful_shutdown()

    def handlers(self) -> Handlers:
        """Return the handlers by full path."""
        collector: Any = _Collector()
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, collector)
        return dict(collector.handlers)


def reflection_handlers(services: tuple[str, ...]) -> Handlers:
    """Return the handlers of gRPC reflection, which describes ``services``."""
    collector: Any = _Collector()
    own_name = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
    servicer = ReflectionServicer((*services, own_name))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, collector)
    return dict(collector.handlers)
