"""Requests of consumer groups and transactions; they go to the coordinators."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from kafka import errors
from kafka.protocol import admin, consumer, producer

from titans_stream.devbroker.cluster import Cluster
from titans_stream.devbroker.groups import Group
from titans_stream.devbroker.offsets import Committed, Positions
from titans_stream.devbroker.protocol import Caller, Operation, code_of, outcome


class GroupApi:
    """Groups, committed offsets and transactions of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._groups = cluster.groups
        self._offsets = cluster.offsets
        self._transactions = cluster.transactions

    def operations(self) -> Iterator[Operation]:
        """Versions before topic ids (KIP-516) and the transactions of KIP-890."""
        c, a, p = consumer, admin, producer
        yield Operation(c.OffsetCommitRequest, c.OffsetCommitResponse, 2, 8, self.commit)
        yield Operation(c.OffsetFetchRequest, c.OffsetFetchResponse, 1, 7, self.fetch)
        yield Operation(c.JoinGroupRequest, c.JoinGroupResponse, 0, 7, self.join)
        yield Operation(c.SyncGroupRequest, c.SyncGroupResponse, 0, 5, self.sync)
        yield Operation(c.HeartbeatRequest, c.HeartbeatResponse, 0, 4, self.heartbeat)
        yield Operation(c.LeaveGroupRequest, c.LeaveGroupResponse, 0, 4, self.leave)
        yield Operation(a.DescribeGroupsRequest, a.DescribeGroupsResponse, 0, 5, self.describe)
        yield Operation(a.ListGroupsRequest, a.ListGroupsResponse, 0, 4, self.list)
        yield Operation(a.DeleteGroupsRequest, a.DeleteGroupsResponse, 0, 2, self.delete)
        yield Operation(
            p.InitProducerIdRequest, p.InitProducerIdResponse, 0, 4, self.init_producer, 4
        )
        yield Operation(
            p.AddPartitionsToTxnRequest, p.AddPartitionsToTxnResponse, 0, 3, self.add_partitions, 2
        )
        yield Operation(
            p.AddOffsetsToTxnRequest, p.AddOffsetsToTxnResponse, 0, 3, self.add_group, 2
        )
        yield Operation(p.TxnOffsetCommitRequest, p.TxnOffsetCommitResponse, 0, 3, self.add_offsets)
        yield Operation(p.EndTxnRequest, p.EndTxnResponse, 0, 3, self.end_transaction, 2)

    async def join(self, request: Any, caller: Caller) -> dict[str, Any]:
        """JoinGroup."""
        return await self._groups.join(request, caller.client_id, caller.version)

    async def sync(self, request: Any, caller: Caller) -> dict[str, Any]:
        """SyncGroup."""
        return await self._groups.sync(request)

    async def heartbeat(self, request: Any, caller: Caller) -> dict[str, Any]:
        """Heartbeat."""
        return self._groups.heartbeat(request)

    async def leave(self, request: Any, caller: Caller) -> dict[str, Any]:
        """LeaveGroup."""
        return self._groups.leave(request, caller.version)

    async def commit(self, request: Any, caller: Caller) -> dict[str, Any]:
        """OffsetCommit: all partitions of existing topics, if the member may."""

        def check() -> None:
            self._groups.check_commit(
                request.group_id,
                request.member_id,
                request.group_instance_id,
                request.generation_id_or_member_epoch,
            )

        positions = self._positions(request)
        code = outcome(check)
        if code == 0 and positions:
            self._offsets.commit(request.group_id, positions)
        return {"topics": self._by_partition(request, code)}

    async def add_offsets(self, request: Any, caller: Caller) -> dict[str, Any]:
        """TxnOffsetCommit: like OffsetCommit, but they count when the transaction commits."""

        def add() -> None:
            self._groups.check_commit(
                request.group_id,
                request.member_id,
                request.group_instance_id,
                request.generation_id,
                transactional=True,
            )
            self._transactions.add_offsets(request, self._positions(request))

        return {"topics": self._by_partition(request, outcome(add))}

    def _positions(self, request: Any) -> Positions:
        """The positions of a commit, without those in partitions that do not exist."""
        return {
            (topic.name, part.partition_index): Committed(
                part.committed_offset, part.committed_leader_epoch, part.committed_metadata
            )
            for topic in request.topics
            for part in topic.partitions
            if self._cluster.find_log((topic.name, part.partition_index))
        }

    def _by_partition(self, request: Any, code: int) -> list[dict[str, Any]]:
        """An error code per partition of a commit; partitions that do not exist have their own."""
        missing = errors.UnknownTopicOrPartitionError.errno

        def answer(topic: str, number: int) -> dict[str, Any]:
            known = self._cluster.find_log((topic, number))
            return {"partition_index": number, "error_code": code if known else missing}

        return [
            {
                "name": topic.name,
                "partitions": [answer(topic.name, p.partition_index) for p in topic.partitions],
            }
            for topic in request.topics
        ]

    async def fetch(self, request: Any, caller: Caller) -> dict[str, Any]:
        """OffsetFetch: a group's positions; UNSTABLE_OFFSET_COMMIT where a transaction is open,
        if asked to mind (KIP-447).
        """
        stored = self._offsets.positions(request.group_id)
        unstable = self._offsets.unstable(request.group_id) if request.require_stable else set()
        asked: dict[str, list[int]] = {}
        if request.topics is None:
            for name, number in stored:
                asked.setdefault(name, []).append(number)
        else:
            asked = {topic.name: topic.partition_indexes for topic in request.topics}
        nothing = Committed(-1, -1, "")

        def answer(partition: tuple[str, int]) -> dict[str, Any]:
            waits = partition in unstable
            position = nothing if waits else stored.get(partition, nothing)
            return {
                "partition_index": partition[1],
                "committed_offset": position.offset,
                "committed_leader_epoch": position.leader_epoch,
                "metadata": position.metadata or "",
                "error_code": errors.UnstableOffsetCommitError.errno if waits else 0,
            }

        return {
            "topics": [
                {"name": name, "partitions": [answer((name, number)) for number in numbers]}
                for name, numbers in asked.items()
            ]
        }

    async def describe(self, request: Any, caller: Caller) -> dict[str, Any]:
        """DescribeGroups: unknown groups are dead."""
        return {"groups": [self._describe(name) for name in request.groups]}

    def _describe(self, name: str) -> dict[str, Any]:
        group = self._groups.groups.get(name)
        if group is None:
            known = name in self._offsets.groups()
            return {"group_id": name, "group_state": "Empty" if known else "Dead", "members": []}
        return {
            "group_id": name,
            "group_state": group.state.value,
            "protocol_type": group.protocol_type,
            "protocol_data": group.protocol,
            "members": [
                {
                    "member_id": member.member_id,
                    "group_instance_id": member.instance_id,
                    "client_id": member.client_id,
                    "client_host": "/127.0.0.1",
                    "member_metadata": member.protocols.get(group.protocol, b""),
                    "member_assignment": member.assignment,
                }
                for member in group.members.values()
            ],
        }

    async def list(self, request: Any, caller: Caller) -> dict[str, Any]:
        """ListGroups: those with members and those with offsets."""
        groups = {name: Group(name) for name in self._offsets.groups()} | self._groups.groups
        return {
            "groups": [
                {
                    "group_id": group.group_id,
                    "protocol_type": group.protocol_type,
                    "group_state": group.state.value,
                }
                for group in groups.values()
                if not request.states_filter or group.state.value in request.states_filter
            ]
        }

    async def delete(self, request: Any, caller: Caller) -> dict[str, Any]:
        """DeleteGroups: groups without members, with their offsets."""
        return {
            "results": [
                {"group_id": name, "error_code": outcome(partial(self._delete, name))}
                for name in request.groups_names
            ]
        }

    def _delete(self, name: str) -> None:
        if name not in self._groups.groups and name not in self._offsets.groups():
            raise errors.GroupIdNotFoundError()
        self._groups.delete(name)
        self._offsets.delete_group(name)

    async def init_producer(self, request: Any, caller: Caller) -> dict[str, Any]:
        """InitProducerId."""
        return self._transactions.init_producer(request)

    async def add_partitions(self, request: Any, caller: Caller) -> dict[str, Any]:
        """AddPartitionsToTxn: all partitions, or none if one does not exist."""
        asked = [(t.name, p) for t in request.v3_and_below_topics for p in t.partitions]
        unknown = {partition for partition in asked if not self._cluster.find_log(partition)}
        code = 0
        try:
            self._transactions.add_partitions(request, set() if unknown else set(asked))
        except errors.BrokerResponseError as error:
            fenced = isinstance(error, errors.ProducerFencedError) and caller.version < 2
            code = errors.InvalidProducerEpochError.errno if fenced else code_of(error)
        if unknown and not code:
            code = errors.OperationNotAttemptedError.errno
        missing = errors.UnknownTopicOrPartitionError.errno
        topics: dict[str, list[dict[str, Any]]] = {}
        for name, number in asked:
            answer = missing if (name, number) in unknown else code
            topics.setdefault(name, []).append(
                {"partition_index": number, "partition_error_code": answer}
            )
        results = [{"name": n, "results_by_partition": p} for n, p in topics.items()]
        return {"results_by_topic_v3_and_below": results}

    async def add_group(self, request: Any, caller: Caller) -> dict[str, Any]:
        """AddOffsetsToTxn."""
        return self._transactions.add_group(request)

    async def end_transaction(self, request: Any, caller: Caller) -> dict[str, Any]:
        """EndTxn."""
        return self._transactions.end(request)
