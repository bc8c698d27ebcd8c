"""Requests about the cluster: ApiVersions, Metadata, coordinators, topics, settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kafka import errors
from kafka.protocol import admin, metadata

from titans_stream.devbroker.cluster import Cluster, Topic
from titans_stream.devbroker.protocol import Caller, Operation, code_of

NODE_ID = 1
CLUSTER_ID = "titans-stream-development"
TOPIC_RESOURCE, BROKER_RESOURCE = 2, 4
DEFAULT_SOURCE, TOPIC_SOURCE = 5, 1
"""Where a setting comes from, as DescribeConfigs numbers it."""


class AdminApi:
    """Tells clients of the one node that there is, and makes and removes topics."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        host: str,
        port: int,
        auto_create: bool,
        default_partitions: int,
    ) -> None:
        self._cluster = cluster
        self._node = {"host": host, "port": port}
        self._auto_create = auto_create
        self._default_partitions = default_partitions

    def operations(self) -> Iterator[Operation]:
        """Versions before topic ids (KIP-516)."""
        a, m = admin, metadata
        yield Operation(m.MetadataRequest, m.MetadataResponse, 0, 9, self.metadata)
        yield Operation(m.FindCoordinatorRequest, m.FindCoordinatorResponse, 0, 3, self.find)
        yield Operation(a.DescribeClusterRequest, a.DescribeClusterResponse, 0, 0, self.describe)
        yield Operation(a.CreateTopicsRequest, a.CreateTopicsResponse, 2, 5, self.create_topics)
        yield Operation(a.DeleteTopicsRequest, a.DeleteTopicsResponse, 1, 5, self.delete_topics)
        yield Operation(
            a.CreatePartitionsRequest, a.CreatePartitionsResponse, 0, 3, self.create_partitions
        )
        yield Operation(a.DescribeConfigsRequest, a.DescribeConfigsResponse, 1, 4, self.settings)

    async def metadata(self, request: Any, caller: Caller) -> dict[str, Any]:
        """Topics and the node; makes topics that a client asks for, if both sides want it."""
        everything = request.topics is None or (caller.version == 0 and not request.topics)
        names = list(self._cluster.topics) if everything else [t.name for t in request.topics]
        create = self._auto_create and request.allow_auto_topic_creation
        return {
            "brokers": [{"node_id": NODE_ID, **self._node}],
            "cluster_id": CLUSTER_ID,
            "controller_id": NODE_ID,
            "topics": [self._describe_topic(name, create) for name in names],
        }

    def _describe_topic(self, name: str, create: bool) -> dict[str, Any]:
        try:
            topic = self._cluster.topics.get(name)
            if topic is None and create:
                topic = self._cluster.create_topic(name, self._default_partitions)
            if topic is None:
                raise errors.UnknownTopicOrPartitionError()
        except errors.BrokerResponseError as error:
            return {"name": name, "error_code": code_of(error), "partitions": []}
        partitions = [
            {
                "error_code": 0,
                "partition_index": number,
                "leader_id": NODE_ID,
                "replica_nodes": [NODE_ID],
                "isr_nodes": [NODE_ID],
                "offline_replicas": [],
            }
            for number in range(len(topic.partitions))
        ]
        return {"name": name, "error_code": 0, "partitions": partitions}

    async def find(self, request: Any, caller: Caller) -> dict[str, Any]:
        """FindCoordinator: the one node coordinates groups and transactions."""
        return {"error_code": 0, "error_message": "", "node_id": NODE_ID, **self._node}

    async def describe(self, request: Any, caller: Caller) -> dict[str, Any]:
        """DescribeCluster."""
        return {
            "cluster_id": CLUSTER_ID,
            "controller_id": NODE_ID,
            "brokers": [{"broker_id": NODE_ID, **self._node}],
        }

    async def create_topics(self, request: Any, caller: Caller) -> dict[str, Any]:
        """CreateTopics: replication factor 1 (or -1), as there is one node."""
        return {"topics": [self._create(asked, request.validate_only) for asked in request.topics]}

    def _create(self, asked: Any, validate_only: bool) -> dict[str, Any]:
        partitions = len(asked.assignments) or asked.num_partitions
        if partitions == -1:
            partitions = self._default_partitions
        settings = {s.name: s.value for s in asked.configs if s.value is not None}
        answer = {"name": asked.name, "error_code": 0, "error_message": None, "configs": []}
        try:
            self._cluster.check_new_topic(asked.name, partitions)
            if asked.replication_factor not in (-1, 1):
                raise errors.InvalidReplicationFactorError("the development broker is one node")
            if not settings.get("max.message.bytes", "0").isdecimal():
                raise errors.InvalidConfigurationError("max.message.bytes: not a number")
            if not validate_only:
                self._cluster.create_topic(asked.name, partitions, settings)
        except errors.BrokerResponseError as error:
            return answer | {"error_code": code_of(error), "error_message": str(error)}
        return answer | {"num_partitions": partitions, "replication_factor": 1}

    async def create_partitions(self, request: Any, caller: Caller) -> dict[str, Any]:
        """CreatePartitions: more partitions for topics that are there."""
        return {"results": [self._add_partitions(each) for each in request.topics]}

    def _add_partitions(self, asked: Any) -> dict[str, Any]:
        answer = {"name": asked.name, "error_code": 0, "error_message": None}
        try:
            self._cluster.add_partitions(asked.name, asked.count)
        except errors.BrokerResponseError as error:
            return answer | {"error_code": code_of(error), "error_message": str(error)}
        return answer

    async def delete_topics(self, request: Any, caller: Caller) -> dict[str, Any]:
        """DeleteTopics."""
        return {"responses": [self._delete(name) for name in request.topic_names]}

    def _delete(self, name: str) -> dict[str, Any]:
        try:
            self._cluster.delete_topic(name)
        except errors.BrokerResponseError as error:
            return {"name": name, "error_code": code_of(error)}
        return {"name": name, "error_code": 0}

    async def settings(self, request: Any, caller: Caller) -> dict[str, Any]:
        """DescribeConfigs: the few settings that mean something here."""
        return {"results": [self._describe_settings(each) for each in request.resources]}

    def _describe_settings(self, resource: Any) -> dict[str, Any]:
        answer = {
            "error_code": 0,
            "error_message": None,
            "resource_type": resource.resource_type,
            "resource_name": resource.resource_name,
            "configs": [],
        }
        topic = None
        if resource.resource_type == TOPIC_RESOURCE:
            topic = self._cluster.topics.get(resource.resource_name)
            if topic is None:
                return answer | {"error_code": errors.UnknownTopicOrPartitionError.errno}
        elif resource.resource_type != BROKER_RESOURCE:
            return answer | {"error_code": errors.InvalidRequestError.errno}
        wanted = resource.configuration_keys
        rows = [r for r in self._rows(topic) if wanted is None or r["name"] in wanted]
        return answer | {"configs": rows}

    def _rows(self, topic: Topic | None) -> Iterable[dict[str, Any]]:
        retention = self._cluster.retention_bytes
        limit = "max.message.bytes" if topic else "message.max.bytes"
        settings = {
            limit: str(self._cluster.max_message_bytes),
            "cleanup.policy" if topic else "log.cleanup.policy": "delete",
            "retention.bytes" if topic else "log.retention.bytes": str(
                -1 if retention is None else retention
            ),
            "retention.ms" if topic else "log.retention.ms": "-1",
            "min.insync.replicas": "1",
        }
        own = topic.settings if topic else {}
        for name, value in (settings | own).items():
            yield {
                "name": name,
                "value": value,
                "config_source": TOPIC_SOURCE if name in own else DEFAULT_SOURCE,
                "synonyms": [],
            }
