"""Consumer groups of the development broker: membership, generations, assignments.

The classic protocol: JoinGroup gathers the members of a new generation, the leader hands the
assignment in with SyncGroup, heartbeats keep members alive (KIP-62, KIP-345 static members,
KIP-394 member ids required). The server-side protocol of KIP-848 is not offered.
"""

from __future__ import annotations

import asyncio
import enum
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from kafka import errors


class GroupState(enum.Enum):
    """Where a group stands; the values are the names that clients see."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


NEXT_STATES = {
    GroupState.EMPTY: {GroupState.PREPARING},
    GroupState.PREPARING: {GroupState.COMPLETING, GroupState.EMPTY},
    GroupState.COMPLETING: {GroupState.STABLE, GroupState.PREPARING},
    GroupState.STABLE: {GroupState.PREPARING},
}


@dataclass(eq=False, slots=True)
class Member:
    """A consumer in a group. `joining` and `syncing` are the answers it waits for."""

    member_id: str
    instance_id: str | None
    client_id: str
    session_ms: int
    rebalance_ms: int
    protocols: dict[str, bytes]
    assignment: bytes = b""
    joining: asyncio.Future[dict[str, Any]] | None = None
    syncing: asyncio.Future[bytes] | None = None
    expiry: asyncio.TimerHandle | None = None

    def fail(self, error: Exception) -> None:
        """Answer whatever the member waits for with an error."""
        for waiting in (self.joining, self.syncing):
            if waiting and not waiting.done():
                waiting.set_exception(error)
        self.joining = self.syncing = None


@dataclass(eq=False, slots=True)
class Group:
    """One consumer group. `pending` are member ids handed out to members still to join."""

    group_id: str
    state: GroupState = GroupState.EMPTY
    generation: int = 0
    protocol_type: str = ""
    protocol: str = ""
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    pending: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    rebalance_timer: asyncio.TimerHandle | None = None

    def enter(self, state: GroupState) -> None:
        """Go to another state; only the protocol's own transitions exist."""
        assert state in NEXT_STATES[self.state], f"{self.state} to {state}"
        self.state = state

    def by_instance(self, instance_id: str | None) -> Member | None:
        """The static member of that name."""
        static = (m for m in self.members.values() if m.instance_id == instance_id)
        return next(static, None) if instance_id is not None else None

    def shared_protocols(self) -> set[str]:
        """The assignors that every member knows."""
        return set.intersection(*(set(m.protocols) for m in self.members.values()))


class GroupCoordinator:
    """All consumer groups. Lives on one event loop; its timers are that loop's."""

    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}

    async def join(self, request: Any, client_id: str, version: int) -> dict[str, Any]:
        """JoinGroup: wait until the new generation is complete."""
        group = self._group_to_join(request)
        member_id = request.member_id
        if not member_id:
            member_id = f"{request.group_instance_id or client_id}-{uuid.uuid4()}"
            static = group.by_instance(request.group_instance_id)
            if static:
                static.fail(errors.FencedInstanceIdError())
                self._forget(group, static)
            elif version >= 4 and request.group_instance_id is None:
                self._expect(group, member_id, request.session_timeout_ms)
                return {
                    "error_code": errors.MemberIdRequiredError.errno,
                    "member_id": member_id,
                    "protocol_name": "",
                    "members": [],
                }
        elif member_id in group.pending:
            group.pending.pop(member_id).cancel()
        else:
            member = self._member(group, member_id, request.group_instance_id)
            if self._may_stay(group, member, request):
                self._touch(group, member)
                return self._joined(group, member)
        return await self._enter(group, member_id, request, client_id)

    async def sync(self, request: Any) -> dict[str, Any]:
        """SyncGroup: the leader brings the assignment, the others wait for it."""
        group, member = self._find(request)
        self._touch(group, member)
        if group.state == GroupState.PREPARING:
            raise errors.RebalanceInProgressError()
        if group.state == GroupState.COMPLETING:
            if member.syncing and not member.syncing.done():
                member.syncing.set_exception(errors.RebalanceInProgressError())
            member.syncing = asyncio.get_running_loop().create_future()
            waiting = member.syncing
            if member.member_id == group.leader:
                self._assign(group, {a.member_id: a.assignment for a in request.assignments})
            await waiting
        return {
            "protocol_type": group.protocol_type,
            "protocol_name": group.protocol,
            "assignment": member.assignment,
        }

    def heartbeat(self, request: Any) -> dict[str, Any]:
        """Heartbeat: keep the member; RebalanceInProgressError tells it to join again."""
        group, member = self._find(request)
        self._touch(group, member)
        if group.state == GroupState.PREPARING:
            raise errors.RebalanceInProgressError()
        return {}

    def leave(self, request: Any, version: int) -> dict[str, Any]:
        """LeaveGroup: one member up to version 2, several from version 3 on."""
        group = self.groups.get(request.group_id)
        if version < 3:
            if group is None:
                raise errors.UnknownMemberIdError()
            self._leave(group, request.member_id, None)
            return {}
        answers = []
        for leaving in request.members:
            code = 0
            try:
                if group is None:
                    raise errors.UnknownMemberIdError()
                self._leave(group, leaving.member_id, leaving.group_instance_id)
            except errors.BrokerResponseError as error:
                code = error.errno
            answers.append(
                {
                    "member_id": leaving.member_id,
                    "group_instance_id": leaving.group_instance_id,
                    "error_code": code,
                }
            )
        return {"members": answers}

    def check_commit(
        self,
        group_id: str,
        member_id: str,
        instance_id: str | None,
        generation: int,
        *,
        transactional: bool = False,
    ) -> None:
        """Whether a member may commit offsets: UnknownMemberIdError, IllegalGenerationError,
        FencedInstanceIdError, RebalanceInProgressError if not. A generation below 0 is a client
        outside of group management: it needs a group without members, or a transaction.
        """
        group = self.groups.get(group_id)
        if generation < 0 and not member_id:
            if group and group.members and not transactional:
                raise errors.UnknownMemberIdError()
            return
        if group is None:
            raise errors.IllegalGenerationError()
        member = self._member(group, member_id, instance_id)
        if generation != group.generation:
            raise errors.IllegalGenerationError()
        self._touch(group, member)
        if group.state == GroupState.COMPLETING and not transactional:
            raise errors.RebalanceInProgressError()

    def delete(self, group_id: str) -> None:
        """Forget a group; NonEmptyGroupError while it has members."""
        group = self.groups.get(group_id)
        if group and group.members:
            raise errors.NonEmptyGroupError()
        self.groups.pop(group_id, None)

    # --- members

    def _group_to_join(self, request: Any) -> Group:
        """The group that a JoinGroup names, made if new; an error if the request cannot join."""
        if not request.group_id:
            raise errors.InvalidGroupIdError()
        if request.session_timeout_ms < 1:
            raise errors.InvalidSessionTimeoutError()
        if not request.protocols:
            raise errors.InconsistentGroupProtocolError()
        group = self.groups.setdefault(request.group_id, Group(request.group_id))
        others = [m for m in group.members.values() if m.member_id != request.member_id]
        if others:
            names = {protocol.name for protocol in request.protocols}
            shared = set.intersection(names, *(set(m.protocols) for m in others))
            if request.protocol_type != group.protocol_type or not shared:
                raise errors.InconsistentGroupProtocolError()
        return group

    def _member(self, group: Group, member_id: str, instance_id: str | None) -> Member:
        static = group.by_instance(instance_id)
        if static and static.member_id != member_id:
            raise errors.FencedInstanceIdError()
        member = group.members.get(member_id)
        if member is None:
            raise errors.UnknownMemberIdError()
        return member

    def _find(self, request: Any) -> tuple[Group, Member]:
        """The group and member of a request of the current generation."""
        group = self.groups.get(request.group_id)
        if group is None:
            raise errors.UnknownMemberIdError()
        member = self._member(group, request.member_id, request.group_instance_id)
        if request.generation_id != group.generation:
            raise errors.IllegalGenerationError()
        return group, member

    def _expect(self, group: Group, member_id: str, session_ms: int) -> None:
        """Keep a place for a member that was told its id and has to join with it."""

        def give_up() -> None:
            group.pending.pop(member_id, None)
            self._complete_if_all_joined(group)

        loop = asyncio.get_running_loop()
        group.pending[member_id] = loop.call_later(session_ms / 1000, give_up)

    def _touch(self, group: Group, member: Member) -> None:
        """Start the member's session anew."""
        if member.expiry:
            member.expiry.cancel()
        loop = asyncio.get_running_loop()
        member.expiry = loop.call_later(member.session_ms / 1000, self._expire, group, member)

    def _expire(self, group: Group, member: Member) -> None:
        if member.joining or member.syncing:
            self._touch(group, member)
        else:
            self._remove(group, member)

    def _leave(self, group: Group, member_id: str, instance_id: str | None) -> None:
        if member_id in group.pending:
            group.pending.pop(member_id).cancel()
            self._complete_if_all_joined(group)
            return
        static = group.by_instance(instance_id)
        named = static if static and not member_id else None
        self._remove(group, named or self._member(group, member_id, instance_id))

    def _forget(self, group: Group, member: Member) -> None:
        if member.expiry:
            member.expiry.cancel()
        group.members.pop(member.member_id, None)

    def _remove(self, group: Group, member: Member) -> None:
        member.fail(errors.UnknownMemberIdError())
        self._forget(group, member)
        if group.state in (GroupState.STABLE, GroupState.COMPLETING):
            self._start_rebalance(group)
        self._complete_if_all_joined(group)

    # --- rebalances

    def _may_stay(self, group: Group, member: Member, request: Any) -> bool:
        """Whether a known member that joins again changes nothing."""
        same = member.protocols == {p.name: bytes(p.metadata) for p in request.protocols}
        if group.state == GroupState.COMPLETING:
            return same
        return same and group.state == GroupState.STABLE and member.member_id != group.leader

    async def _enter(
        self, group: Group, member_id: str, request: Any, client_id: str
    ) -> dict[str, Any]:
        """Put a member into the next generation and wait for it."""
        member = group.members.get(member_id)
        protocols = {p.name: bytes(p.metadata) for p in request.protocols}
        rebalance_ms = max(request.rebalance_timeout_ms, request.session_timeout_ms)
        if member is None:
            member = Member(
                member_id, request.group_instance_id, client_id, 0, rebalance_ms, protocols
            )
            group.members[member_id] = member
        member.fail(errors.RebalanceInProgressError())
        member.session_ms, member.rebalance_ms = request.session_timeout_ms, rebalance_ms
        member.protocols = protocols
        group.protocol_type = request.protocol_type
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        member.joining = waiting
        self._touch(group, member)
        if group.state != GroupState.PREPARING:
            self._start_rebalance(group)
        self._complete_if_all_joined(group)
        return await waiting

    def _start_rebalance(self, group: Group) -> None:
        group.enter(GroupState.PREPARING)
        for member in group.members.values():
            if member.syncing and not member.syncing.done():
                member.syncing.set_exception(errors.RebalanceInProgressError())
            member.syncing = None
        patience = max((m.rebalance_ms for m in group.members.values()), default=0)
        loop = asyncio.get_running_loop()
        group.rebalance_timer = loop.call_later(patience / 1000, self._complete, group)

    def _complete_if_all_joined(self, group: Group) -> None:
        if group.state != GroupState.PREPARING or group.pending:
            return
        if all(member.joining for member in group.members.values()):
            self._complete(group)

    def _complete(self, group: Group) -> None:
        """Begin the next generation with those who joined; the others are out."""
        if group.rebalance_timer:
            group.rebalance_timer.cancel()
        for member in [m for m in group.members.values() if not m.joining]:
            self._forget(group, member)
        group.generation += 1
        if not group.members:
            group.protocol = group.leader = ""
            group.enter(GroupState.EMPTY)
            return
        shared = group.shared_protocols()
        votes = Counter(
            next(name for name in m.protocols if name in shared) for m in group.members.values()
        )
        group.protocol = votes.most_common(1)[0][0]
        if group.leader not in group.members:
            group.leader = next(iter(group.members))
        group.enter(GroupState.COMPLETING)
        for member in group.members.values():
            member.assignment = b""
            self._touch(group, member)
            waiting, member.joining = member.joining, None
            if waiting and not waiting.done():
                waiting.set_result(self._joined(group, member))

    def _joined(self, group: Group, member: Member) -> dict[str, Any]:
        """The answer to JoinGroup; the leader alone sees the members."""
        members = group.members.values() if member.member_id == group.leader else ()
        return {
            "generation_id": group.generation,
            "protocol_type": group.protocol_type,
            "protocol_name": group.protocol,
            "leader": group.leader,
            "member_id": member.member_id,
            "members": [
                {
                    "member_id": each.member_id,
                    "group_instance_id": each.instance_id,
                    "metadata": each.protocols[group.protocol],
                }
                for each in members
            ],
        }

    def _assign(self, group: Group, assignments: dict[str, Any]) -> None:
        """Hand out the leader's assignment; the generation is stable."""
        group.enter(GroupState.STABLE)
        for member in group.members.values():
            member.assignment = bytes(assignments.get(member.member_id, b""))
            if member.syncing and not member.syncing.done():
                member.syncing.set_result(member.assignment)
            member.syncing = None
