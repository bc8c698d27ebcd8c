"""The development broker's sockets: frames in and out, one request per connection at a time."""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import Any

from kafka import errors
from kafka.protocol.consumer import FetchRequest
from kafka.protocol.metadata import ApiVersionsRequest, ApiVersionsResponse

from titans_stream.devbroker.admin_api import AdminApi
from titans_stream.devbroker.cluster import Cluster
from titans_stream.devbroker.group_api import GroupApi
from titans_stream.devbroker.protocol import Caller, Operation, encode_response, read_header
from titans_stream.devbroker.records_api import RecordsApi

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 100 * 2**20
"""Kafka's socket.request.max.bytes."""
STREAM_BUFFER_BYTES = 2**20
FETCH = struct.pack(">h", FetchRequest.API_KEY)
"""How the requests begin that wait for records."""
IDLE_SECONDS = 600.0
"""Kafka's connections.max.idle.ms."""
FRAME_SECONDS = 30.0
"""A request that was begun, and the reading of a response, take no longer."""
GONE_SECONDS = 1.0
"""How soon a request that waits notices that its client has gone."""
LOG_SECONDS = 1.0


class Server:
    """Serves a Cluster on one address."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._operations: dict[int, Operation] = {}
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._listener: asyncio.Server | None = None
        self._bad_frames = 0
        self._next_log = 0.0

    async def start(
        self, host: str, port: int, *, auto_create: bool, default_partitions: int
    ) -> int:
        """Listen; the port, which is chosen here if 0 is asked for. OSError if it is taken."""
        self._listener = await asyncio.start_server(
            self._accept, host, port, limit=STREAM_BUFFER_BYTES, start_serving=False
        )
        port = int(self._listener.sockets[0].getsockname()[1])
        admin = AdminApi(
            self._cluster,
            host=host,
            port=port,
            auto_create=auto_create,
            default_partitions=default_partitions,
        )
        for api in (RecordsApi(self._cluster), GroupApi(self._cluster), admin):
            for operation in api.operations():
                self._operations[operation.request.API_KEY] = operation
        versions = Operation(ApiVersionsRequest, ApiVersionsResponse, 0, 3, self._api_versions)
        self._operations[ApiVersionsRequest.API_KEY] = versions
        await self._listener.start_serving()
        return port

    async def close(self) -> None:
        """Listen no more and close the connections."""
        if self._listener:
            self._listener.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def abort_connections(self) -> None:
        """Cut the connections; what was still to be sent is lost."""
        for writer in self._connections.values():
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        if not task.cancelled() and task.exception():
            log.error("a request failed, its connection is closed", exc_info=task.exception())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                async with asyncio.timeout(IDLE_SECONDS):
                    (length,) = struct.unpack(">i", await reader.readexactly(4))
                if not 0 < length <= MAX_REQUEST_BYTES:
                    raise ValueError(f"a request of {length} bytes")
                async with asyncio.timeout(FRAME_SECONDS):
                    frame = await reader.readexactly(length)
                if frame.startswith(FETCH):
                    response = await self._answer_while_there(reader, frame)
                else:
                    response = await self._answer(frame)
                if response is not None:
                    async with asyncio.timeout(FRAME_SECONDS):
                        writer.write(response)
                        await writer.drain()
        except TimeoutError:
            log.debug("a connection without a sign of life is closed")
        except (asyncio.IncompleteReadError, ConnectionError):
            log.debug("a client went away")
        except ValueError as error:
            self._log_bad(error)
        finally:
            writer.close()

    async def _answer_while_there(self, reader: asyncio.StreamReader, frame: bytes) -> bytes | None:
        """The response to a request that may wait; ConnectionError soon after its client went."""
        answer = asyncio.create_task(self._answer(frame))
        try:
            while True:
                done, _ = await asyncio.wait({answer}, timeout=GONE_SECONDS)
                if done:
                    return answer.result()
                if reader.at_eof() or reader.exception() is not None:
                    raise ConnectionError
        finally:
            answer.cancel()

    def _log_bad(self, error: ValueError) -> None:
        """Tell of frames that cannot be read, now and then."""
        self._bad_frames += 1
        now = asyncio.get_running_loop().time()
        if now >= self._next_log:
            log.warning("%d connection(s) closed, the last: %s", self._bad_frames, error)
            self._next_log, self._bad_frames = now + LOG_SECONDS, 0

    async def _answer(self, frame: bytes) -> bytes | None:
        """The response to a request; ValueError if it cannot be read."""
        operation, request, caller, correlation_id = self._decode(frame)
        if request is None:  # a version of ApiVersions that is not known here: KIP-511
            values = self._version_table() | {"error_code": errors.UnsupportedVersionError.errno}
            return encode_response(operation, 0, correlation_id, values)
        try:
            values_or_none = await operation.handler(request, caller)
        except errors.BrokerResponseError as error:
            values_or_none = {"error_code": operation.code(error, caller.version)}
        except TypeError as error:  # a null where the request needs a list
            raise ValueError(f"a request that cannot be answered: {error}") from error
        if values_or_none is None:
            return None
        return encode_response(operation, caller.version, correlation_id, values_or_none)

    def _decode(self, frame: bytes) -> tuple[Operation, Any, Caller, int]:
        try:
            header = read_header(frame, self._is_flexible)
            operation = self._operations[header.api_key]
            caller = Caller(header.client_id, header.version)
            if not operation.min_version <= header.version <= operation.max_version:
                if operation.request is not ApiVersionsRequest:
                    raise ValueError(f"version {header.version} of api {header.api_key}")
                return operation, None, caller, header.correlation_id
            request = operation.request.decode(header.body, version=header.version)
        except (LookupError, TypeError, struct.error) as error:
            raise ValueError(f"a request that cannot be read: {error!r}") from error
        return operation, request, caller, header.correlation_id

    def _is_flexible(self, api_key: int, version: int) -> bool:
        return bool(self._operations[api_key].request.flexible_version_q(version))

    async def _api_versions(self, request: Any, caller: Caller) -> dict[str, Any]:
        return self._version_table() | {"error_code": 0}

    def _version_table(self) -> dict[str, Any]:
        keys = [
            {"api_key": key, "min_version": each.min_version, "max_version": each.max_version}
            for key, each in sorted(self._operations.items())
        ]
        return {"api_keys": keys}
