"""Requests for records: Produce, Fetch, ListOffsets, DeleteRecords."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from kafka import errors
from kafka.protocol.admin import DeleteRecordsRequest, DeleteRecordsResponse
from kafka.protocol.consumer import (
    FetchRequest,
    FetchResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
)
from kafka.protocol.producer import ProduceRequest, ProduceResponse

from titans_stream.devbroker.cluster import Cluster
from titans_stream.devbroker.log import PartitionLog, parse_batch
from titans_stream.devbroker.protocol import Caller, Operation, code_of

EARLIEST, LATEST = -2, -1


class RecordsApi:
    """Appends records to the cluster's logs and reads them."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def operations(self) -> Iterator[Operation]:
        """Versions before topic ids (KIP-516)."""
        yield Operation(ProduceRequest, ProduceResponse, 0, 9, self.produce)
        yield Operation(FetchRequest, FetchResponse, 4, 12, self.fetch)
        yield Operation(ListOffsetsRequest, ListOffsetsResponse, 1, 6, self.list_offsets)
        yield Operation(DeleteRecordsRequest, DeleteRecordsResponse, 0, 2, self.delete_records)

    async def produce(self, request: Any, caller: Caller) -> dict[str, Any] | None:
        """Append a batch per partition; no response to acks=0."""
        responses = [
            {
                "name": topic.name,
                "partition_responses": [
                    self._append(request, topic.name, each) for each in topic.partition_data
                ],
            }
            for topic in request.topic_data
        ]
        return None if request.acks == 0 else {"responses": responses}

    def _append(self, request: Any, topic: str, part: Any) -> dict[str, Any]:
        answer = {"index": part.index, "error_code": 0, "base_offset": -1, "log_start_offset": -1}
        try:
            if request.acks not in (-1, 0, 1):
                raise errors.InvalidRequiredAcksError()
            partition_log = self._cluster.log_of(topic, part.index)
            data = bytes(part.records or b"")
            batch = parse_batch(data)
            if batch.transactional:
                self._cluster.transactions.check_open(
                    batch.producer_id, batch.producer_epoch, (topic, part.index)
                )
            answer["base_offset"] = partition_log.append(batch)
            answer["log_start_offset"] = partition_log.start_offset
        except errors.BrokerResponseError as error:
            answer["error_code"] = code_of(error)
        return answer

    async def fetch(self, request: Any, caller: Caller) -> dict[str, Any]:
        """Read batches; wait up to max_wait_ms until there are min_bytes of them.

        Fetch sessions (KIP-227) are not offered: session id 0 makes clients send all partitions.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.max_wait_ms / 1000
        wanted = [
            (topic.topic, part.partition) for topic in request.topics for part in topic.partitions
        ]
        logs = [found for found in map(self._cluster.find_log, wanted) if found]
        woken = asyncio.Event()
        for partition_log in logs:
            partition_log.waiters.add(woken)
        try:
            while True:
                woken.clear()
                responses, size, failed = self._read_all(request)
                left = deadline - loop.time()
                if size >= request.min_bytes or failed or left <= 0:
                    return {"responses": responses}
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), left)
        finally:
            for partition_log in logs:
                partition_log.waiters.discard(woken)

    def _read_all(self, request: Any) -> tuple[list[dict[str, Any]], int, bool]:
        """Responses by topic, their bytes, and whether any partition failed."""
        responses, size, failed = [], 0, False
        for topic in request.topics:
            partitions = []
            for part in topic.partitions:
                answer = self._read(request, topic.topic, part, size)
                size += len(answer["records"])
                failed = failed or answer["error_code"] != 0
                partitions.append(answer)
            responses.append({"topic": topic.topic, "partitions": partitions})
        return responses, size, failed

    def _read(self, request: Any, topic: str, part: Any, size: int) -> dict[str, Any]:
        """One partition's answer. The first records of a response come even if too large
        (KIP-74).
        """
        answer = {
            "partition_index": part.partition,
            "error_code": 0,
            "high_watermark": -1,
            "aborted_transactions": None,
            "records": b"",
        }
        committed = request.isolation_level == 1
        room = min(part.partition_max_bytes, request.max_bytes - size)
        try:
            partition_log = self._cluster.log_of(topic, part.partition)
            answer["records"], reached = partition_log.read(
                part.fetch_offset, room, committed=committed, oversize=size == 0
            )
            answer["high_watermark"] = partition_log.end_offset
            answer["last_stable_offset"] = partition_log.stable_offset
            answer["log_start_offset"] = partition_log.start_offset
            if committed:
                aborted = partition_log.aborted_between(part.fetch_offset, reached)
                answer["aborted_transactions"] = [
                    {"producer_id": each.producer_id, "first_offset": each.first_offset}
                    for each in aborted
                ]
        except errors.BrokerResponseError as error:
            answer["error_code"] = code_of(error)
        return answer

    async def list_offsets(self, request: Any, caller: Caller) -> dict[str, Any]:
        """The earliest or latest offset, or the first one not older than a timestamp."""
        committed = request.isolation_level == 1
        return {
            "topics": [
                {
                    "name": topic.name,
                    "partitions": [
                        self._offset_at(topic.name, part, committed) for part in topic.partitions
                    ],
                }
                for topic in request.topics
            ]
        }

    def _offset_at(self, topic: str, part: Any, committed: bool) -> dict[str, Any]:
        answer = {"partition_index": part.partition_index, "error_code": 0}
        try:
            partition_log = self._cluster.log_of(topic, part.partition_index)
            offset, timestamp = find_offset(partition_log, part.timestamp, committed)
        except errors.BrokerResponseError as error:
            return answer | {"error_code": code_of(error)}
        return answer | {"offset": offset, "timestamp": timestamp}

    async def delete_records(self, request: Any, caller: Caller) -> dict[str, Any]:
        """Move the start of logs."""
        return {
            "topics": [
                {
                    "name": topic.name,
                    "partitions": [self._delete(topic.name, part) for part in topic.partitions],
                }
                for topic in request.topics
            ]
        }

    def _delete(self, topic: str, part: Any) -> dict[str, Any]:
        answer = {"partition_index": part.partition_index, "low_watermark": -1, "error_code": 0}
        try:
            partition_log = self._cluster.log_of(topic, part.partition_index)
            partition_log.delete_before(part.offset)
            answer["low_watermark"] = partition_log.start_offset
        except errors.BrokerResponseError as error:
            answer["error_code"] = code_of(error)
        return answer


def find_offset(partition_log: PartitionLog, timestamp: int, committed: bool) -> tuple[int, int]:
    """Offset and timestamp (epoch ms) for what ListOffsets asks; -1 for none."""
    if timestamp == EARLIEST:
        return partition_log.start_offset, -1
    if timestamp == LATEST:
        return partition_log.stable_offset if committed else partition_log.end_offset, -1
    if timestamp < 0:
        raise errors.UnsupportedVersionError()
    return partition_log.find_timestamp(timestamp, committed) or (-1, -1)
