"""The reorder buffer's readings: a list for each series, ordered by time, in one pool of nodes."""

from __future__ import annotations

from typing import NamedTuple

from titans_stream.engine.order import NEVER
from titans_stream.jit import njit
from titans_stream.records import Float64, Int64

BUFFER_LIMIT = 10_000
"""Readings of one series that wait for order; beyond it the oldest goes on."""
PAUSE = 5
"""A stamp this many times as far from the next one as from the one before is spread over the
shorter of the two."""
DROP, KEEP_ORDER, KEEP_LAST, SPREAD = range(4)
"""What becomes of readings that share a stamp, as `engine.duplicates` names it."""
NONE = -1


class Lists(NamedTuple):
    """By uid."""

    newest: Int64
    released: Int64
    """The last stamp that went on."""
    width: Int64
    """Nanoseconds between the two stamps before; 0: not known."""
    head: Int64
    """The first node, NONE: nothing waits."""
    tail: Int64
    held: Int64
    """How many wait."""
    between: Int64
    """The node behind which the last late reading belonged, NONE: it went on, or none was late."""


class Nodes(NamedTuple):
    """Waiting readings, by node; `following` of a free one is the next free one."""

    time: Int64
    value: Float64
    partition: Int64
    offset: Int64
    group: Int64
    following: Int64
    before: Int64


class Settings(NamedTuple):
    """`free` [1] is the first free node."""

    bound: int
    duplicates: int
    free: Int64


class Given(NamedTuple):
    """Readings, in order."""

    uid: Int64
    time: Int64
    value: Float64
    partition: Int64
    offset: Int64
    group: Int64


class Released(NamedTuple):
    """Readings that go on, in order, and how many they are."""

    uid: Int64
    time: Int64
    value: Float64
    partition: Int64
    offset: Int64
    group: Int64
    duplicate: Int64
    filled: Int64
    """[1]"""


@njit(inner=True)
def _is_same(one: float, other: float) -> bool:
    """Whether two values are the same, or both missing."""
    finite = abs(one) < float("inf"), abs(other) < float("inf")
    return one == other or not (finite[0] or finite[1])


@njit(inner=True)
def _emit(uid: int, node: int, time: int, duplicate: int, nodes: Nodes, out: Released) -> None:
    at = out.filled[0]
    out.uid[at], out.time[at], out.value[at] = uid, time, nodes.value[node]
    out.partition[at], out.offset[at] = nodes.partition[node], nodes.offset[node]
    out.group[at], out.duplicate[at] = nodes.group[node], duplicate
    out.filled[0] = at + 1


@njit(inner=True)
def _pass_on(i: int, duplicate: int, given: Given, out: Released) -> None:
    """Let reading i go on at once."""
    at = out.filled[0]
    out.uid[at], out.time[at], out.value[at] = given.uid[i], given.time[i], given.value[i]
    out.partition[at], out.offset[at] = given.partition[i], given.offset[i]
    out.group[at], out.duplicate[at] = given.group[i], duplicate
    out.filled[0] = at + 1


@njit(inner=True)
def _write(node: int, i: int, given: Given, nodes: Nodes) -> None:
    nodes.time[node], nodes.value[node] = given.time[i], given.value[i]
    nodes.partition[node], nodes.offset[node] = given.partition[i], given.offset[i]
    nodes.group[node] = given.group[i]


@njit(inner=True)
def _last_until(uid: int, time: int, lists: Lists, nodes: Nodes) -> int:
    """The last node that is not later than a time, NONE where all are.

    It is looked for from whichever is nearest in time: the newest, the oldest, or the one that was
    found last. So readings that come late in an order of their own cost no more.
    """
    head: int = lists.head[uid]
    node: int = lists.tail[uid]
    if node == NONE or nodes.time[node] <= time:
        return node
    if nodes.time[head] > time:
        return NONE
    nearest = float(nodes.time[node]) - float(time)
    between = lists.between[uid]
    if between != NONE and abs(float(nodes.time[between]) - float(time)) < nearest:
        node, nearest = between, abs(float(nodes.time[between]) - float(time))
    if float(time) - float(nodes.time[head]) < nearest:
        node = head
    while nodes.time[node] > time:
        node = nodes.before[node]
    following = nodes.following[node]
    while following != NONE and nodes.time[following] <= time:
        node, following = following, nodes.following[following]
    lists.between[uid] = node
    return node


@njit(inner=True)
def _insert(
    i: int, given: Given, lists: Lists, nodes: Nodes, settings: Settings, out: Released
) -> None:
    """Put reading i in its place, or let go on what is a duplicate now."""
    uid, time = given.uid[i], given.time[i]
    after = _last_until(uid, time, lists, nodes)
    shares = after != NONE and nodes.time[after] == time
    if shares and settings.duplicates == DROP:
        _pass_on(i, 1, given, out)
        return
    node = after
    while shares and node != NONE and nodes.time[node] == time:
        if settings.duplicates == KEEP_LAST:
            if nodes.before[node] == NONE or nodes.time[nodes.before[node]] != time:
                _emit(uid, node, time, 1, nodes, out)
                _write(node, i, given, nodes)
                return
        elif _is_same(nodes.value[node], given.value[i]):
            _pass_on(i, 1, given, out)
            return
        node = nodes.before[node]
    node = settings.free[0]
    settings.free[0] = nodes.following[node]
    _write(node, i, given, nodes)
    following = lists.head[uid] if after == NONE else nodes.following[after]
    nodes.before[node], nodes.following[node] = after, following
    if after == NONE:
        lists.head[uid] = node
    else:
        nodes.following[after] = node
    if following == NONE:
        lists.tail[uid] = node
    else:
        nodes.before[following] = node
    lists.held[uid] += 1


@njit(inner=True)
def _horizon(uid: int, lists: Lists, bound: int) -> int:
    """The time up to which readings of a series are known; NEVER where it would be before that."""
    newest: int = lists.newest[uid]
    return newest - bound if newest >= NEVER + bound else NEVER


@njit(inner=True)
def _due(uid: int, lists: Lists, nodes: Nodes, settings: Settings) -> int:
    """How many readings wait no longer."""
    horizon = _horizon(uid, lists, settings.bound)
    known, node, last = 0, lists.head[uid], NEVER
    while node != NONE and nodes.time[node] <= horizon:
        known, last = known + 1, nodes.time[node]
        node = nodes.following[node]
    if settings.duplicates < KEEP_LAST or known == 0:
        return known
    if settings.duplicates == SPREAD:  # up to the last stamp whose next one is known
        horizon = last
    node = lists.tail[uid] if node == NONE else nodes.before[node]
    while node != NONE and nodes.time[node] >= horizon:
        known -= 1
        node = nodes.before[node]
    return known


@njit(inner=True)
def _stamp_step(uid: int, node: int, left: int, lists: Lists, nodes: Nodes) -> tuple[int, int]:
    """How many readings share the stamp of a node, the first of it, and the time between them.

    `left` readings go on from this one. The width of the stamp is noted.
    """
    stamp, shared = nodes.time[node], 0
    while node != NONE and nodes.time[node] == stamp:
        shared += 1
        node = nodes.following[node]
    before = lists.width[uid]
    width = before if node == NONE else nodes.time[node] - stamp
    lists.width[uid] = width
    if 0 < before <= (width - 1) // PAUSE:
        width = before
    # of a stamp that fills the buffer a part has gone on without its next one
    cut = shared > left or lists.released[uid] == stamp
    return shared, 0 if cut else width // shared


@njit(inner=True)
def _let_go(
    uid: int, count: int, lists: Lists, nodes: Nodes, settings: Settings, out: Released
) -> None:
    """Let the first `count` readings of a series go on."""
    shared = number = step = 0
    last = NEVER
    for done in range(count):
        node = lists.head[uid]
        if settings.duplicates == SPREAD and number == shared:
            shared, step = _stamp_step(uid, node, count - done, lists, nodes)
            number = 0
        last = nodes.time[node]
        _emit(uid, node, last + number * step, 0, nodes, out)
        number += 1
        following = nodes.following[node]
        lists.head[uid] = following
        if following == NONE:
            lists.tail[uid] = NONE
        else:
            nodes.before[following] = NONE
        nodes.following[node] = settings.free[0]
        settings.free[0] = node
        if node == lists.between[uid]:
            lists.between[uid] = NONE
    lists.held[uid] -= count
    lists.released[uid] = max(lists.released[uid], last)


@njit(nogil=True)
def push(given: Given, lists: Lists, nodes: Nodes, settings: Settings, out: Released) -> None:
    """Take N readings in arrival order; there are as many free nodes."""
    whole = settings.duplicates >= KEEP_LAST
    for i in range(given.uid.shape[0]):
        uid = given.uid[i]
        gone = lists.released[uid] if whole else _horizon(uid, lists, settings.bound)
        if lists.newest[uid] != NEVER and given.time[i] <= gone:
            _pass_on(i, 0, given, out)
            continue
        _insert(i, given, lists, nodes, settings, out)
        lists.newest[uid] = max(lists.newest[uid], given.time[i])
        count = max(_due(uid, lists, nodes, settings), lists.held[uid] - BUFFER_LIMIT)
        if count > 0:
            _let_go(uid, count, lists, nodes, settings, out)


@njit(nogil=True)
def move(lists: Lists, nodes: Nodes, to: Nodes) -> None:
    """Move all nodes in use to the first of others, whose rest is left as it is."""
    used = 0
    for uid in range(lists.head.shape[0]):
        node, last = lists.head[uid], NONE
        lists.head[uid] = lists.between[uid] = NONE
        while node != NONE:
            to.time[used], to.value[used] = nodes.time[node], nodes.value[node]
            to.partition[used], to.offset[used] = nodes.partition[node], nodes.offset[node]
            to.group[used] = nodes.group[node]
            to.before[used], to.following[used] = last, NONE
            if last == NONE:
                lists.head[uid] = used
            else:
                to.following[last] = used
            node, last = nodes.following[node], used
            used += 1
        lists.tail[uid] = last


@njit(nogil=True)
def flush(uids: Int64, lists: Lists, nodes: Nodes, settings: Settings, out: Released) -> None:
    """Let all that waits of some series go on."""
    for k in range(uids.shape[0]):
        uid = uids[k]
        _let_go(uid, lists.held[uid], lists, nodes, settings, out)
        lists.released[uid] = max(lists.released[uid], lists.newest[uid])
