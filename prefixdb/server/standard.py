"""The standard services beside our own: health for load balancers, reflection for tools."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from prefixdb.service.methods import Handler

Handlers = dict[str, Handler]

FAREWELL_S = 0.05
"""How long the end of the server waits for watchers of its health, who may never read."""


class _Collector:
    """Stands in for a server while generated code registers handlers, and keeps them by full path."""

    def __init__(self) -> None:
        self.handlers: Handlers = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: object) -> None:
        """Ignore: the same handlers come once more, by name."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Handlers) -> None:
        """Keep the handlers."""
        self.handlers |= {f"/{service_name}/{name}": handler for name, handler in method_handlers.items()}


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # untyped generated base
    """The state a load balancer sees, of the server as a whole and of each service.

    Not the library's implementation: that one writes to watchers while it holds a lock that setting the state needs, so
    one watcher who does not read kept the server from ending, and forgets all watchers when one of them leaves.
    """

    def __init__(self, services: tuple[str, ...]) -> None:
        self._services = frozenset(("", *services))
        self._serving = False
        self._left = False
        self._changed: set[asyncio.Event] = set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        """Tell the state of a service; NOT_FOUND when it is none of ours."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "There is no such service.")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """Tell the state of a service, and again whenever it has changed, until the call ends."""
        changed = asyncio.Event()
        self._changed.add(changed)
        told = None
        try:
            while True:
                changed.clear()
                status = self._status(request.service)
                if status != told:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    told = status
                await changed.wait()
        finally:
            self._changed.discard(changed)

    def set_serving(self, serving: bool) -> None:
        """Tell everyone who asks or watches; without effect after ``leave``. Waits for nobody."""
        self._serving = serving and not self._left
        for changed in self._changed:
            changed.set()

    async def leave(self) -> None:
        """Say NOT_SERVING for good, and give watchers who read a moment to hear it before their streams are cut."""
        self._left = True
        self.set_serving(False)
        loop = asyncio.get_running_loop()
        end = loop.time() + FAREWELL_S
        while self._changed and loop.time() < end:  # noqa: ASYNC110 - a few times, at the end of the process
            await asyncio.sleep(0.005)

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus.ValueType:
        states = health_pb2.HealthCheckResponse
        if service not in self._services:
            return states.SERVICE_UNKNOWN
        return states.SERVING if self._serving else states.NOT_SERVING

    def handlers(self) -> Handlers:
        """Return the handlers by full path."""
        collector: Any = _Collector()
        health_pb2_grpc.add_HealthServicer_to_server(self, collector)
        return dict(collector.handlers)


def reflection_handlers(services: tuple[str, ...]) -> Handlers:
    """Return the handlers of gRPC reflection, which describes ``services``."""
    collector: Any = _Collector()
    own_name = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
    servicer = ReflectionServicer((*services, own_name))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, collector)
    return dict(collector.handlers)
