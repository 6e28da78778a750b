"""The methods anybody may call: health and reflection, as their libraries implement them, kept within our bounds.

They are handed messages, not bytes, and write to the context themselves; what is ours is that their requests have to
arrive, that their streams are counted, cut when the server drains, and that no exception's text leaves the process.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from prefixdb.errors import PrefixdbError
from prefixdb.service.administration import Administration
from prefixdb.service.arrivals import Arrivals, Replies
from prefixdb.service.calls import Headers, abort, internal_error
from prefixdb.service.methods import Handler
from prefixdb.service.peers import DirectPeers, Peers
from prefixdb.service.ports import CallObserver, PeerCheck, any_peer
from prefixdb.service.sessions import Sessions
from prefixdb.service.streams import OpenStreams, Stream


@dataclass(frozen=True, slots=True)
class GateParts:
    """What the gate works with."""

    sessions: Sessions
    streams: OpenStreams
    arrivals: Arrivals
    replies: Replies
    administration: Administration
    observer: CallObserver
    peers: Peers = field(default_factory=DirectPeers)
    check_peer: PeerCheck = any_peer


def contain(path: str, handler: Handler, parts: GateParts) -> Handler:
    """Return a public ``handler`` within our bounds.

    Args:
        path: its method, for the log.
        handler: what the library registered.
        parts: where its requests arrive and its streams are counted.
    """
    if handler.response_streaming:
        behaviour: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream
    else:
        behaviour = handler.unary_unary

    async def unary(_: object, context: Any) -> Any:
        try:
            return await behaviour(await _message(handler, parts, context), context)
        except PrefixdbError as refusal:
            await abort(context, refusal)
        except grpc.aio.AbortError:
            raise
        except Exception as failure:  # noqa: BLE001 - logged with an id
            await abort(context, internal_error(path, failure))

    async def stream(_: object, context: Any) -> None:
        opened: Stream | None = None
        headers = Headers(context)
        try:
            opened = parts.streams.open(None, lambda: None)
            opened.idle = True
            await headers.send()
            request = _messages(handler, parts, context) if handler.request_streaming else None
            answers = behaviour(request or await _message(handler, parts, context), context)
            if inspect.isasyncgen(answers):
                async for answer in answers:
                    await context.write(answer)
            else:
                await answers
        except asyncio.CancelledError:
            if opened is None or opened.cut_error is None:
                raise
            await headers.settle()
            await abort(context, opened.cut_error)
        except PrefixdbError as refusal:
            await abort(context, refusal)
        except grpc.aio.AbortError:
            raise
        except Exception as failure:  # noqa: BLE001 - logged with an id
            await abort(context, internal_error(path, failure))
        finally:
            if opened is not None:
                opened.ended()

    serialize = handler.response_serializer
    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, None, serialize)
    return grpc.stream_unary_rpc_method_handler(unary, None, serialize)


async def _message(handler: Handler, parts: GateParts, context: Any) -> Any:
    raw = await parts.arrivals.receive(context, public=True)
    return handler.request_deserializer(raw) if handler.request_deserializer else raw


async def _messages(handler: Handler, parts: GateParts, context: Any) -> AsyncIterator[Any]:
    while (raw := await parts.arrivals.receive_next(context, public=True)) is not None:
        yield handler.request_deserializer(raw) if handler.request_deserializer else raw
