"""Judges the history of clients: what was sent, acknowledged, read and committed, from outside.

The clients of a test note each operation with the times of its call and its answer; `check` then
says what a broker must never do. It knows nothing of how the broker works and takes O(n log n).

========================  ======================================================================
anomaly                   meaning
========================  ======================================================================
phantom                   a value was read that nobody sent
inconsistent-offsets      two different values at one offset
aborted-read              a value was read whose send failed for good, or was aborted (G1a)
lost-write                acknowledged, a later one was read, this one by nobody
unseen                    acknowledged, and not read up to the end of the test
vanished                  acknowledged or read before, and gone when the log is read at the end
duplicate                 one value at two offsets
nonmonotonic-send         sends of one process to one partition lie in another order
int-nonmonotonic-poll     one poll steps back in the log, or repeats
int-poll-skip             one poll leaves out what lies between
nonmonotonic-poll         the same between polls of one assignment
poll-skip                 the same between polls of one assignment
precommitted-read         a transaction reads what itself has sent
future-read               a value was read before its send began
stale-commit              a commit of an old generation was accepted
lost-commit               a committed offset was not there when it was asked for again
G0, G1c                   transactions that wrote, or wrote and read, in a circle
========================  ======================================================================

A send without an answer (`INFO`) may be there or not, once. After what the checkers of Jepsen's
Kafka workload look for; G0 is only reported where it is asked for, since Kafka allows it.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterable
from itertools import pairwise
from typing import NamedTuple

OK, FAIL, INFO = "ok", "fail", "info"
Partition = Hashable
Report = dict[str, list[str]]


class Send(NamedTuple):
    """One value sent. `offset` is the acknowledged one; `txn` a transaction's id, if in one."""

    process: int
    partition: Partition
    value: Hashable
    began: float
    ended: float
    outcome: str = OK
    offset: int | None = None
    txn: Hashable = None


class Poll(NamedTuple):
    """What one poll returned: (partition, offset, value), as it came.

    `assignment` changes whenever partitions were given or taken, or a position was set: order is
    asked for only within the same one. `is_final` marks the reading of whole partitions from start
    to end, when all has come to rest.
    """

    process: int
    records: tuple[tuple[Partition, int, Hashable], ...]
    began: float
    ended: float
    assignment: Hashable = 0
    txn: Hashable = None
    is_final: bool = False


class Generation(NamedTuple):
    """A member learnt at `ended` that its group is in a generation."""

    group: str
    generation: int
    ended: float


class Commit(NamedTuple):
    """An offset committed as a member of a generation (-1: from outside of the group)."""

    group: str
    partition: Partition
    offset: int
    generation: int
    began: float
    ended: float
    outcome: str = OK


class Committed(NamedTuple):
    """The offset that the broker says is committed, -1 for none."""

    group: str
    partition: Partition
    offset: int
    began: float
    ended: float


Operation = Send | Poll | Generation | Commit | Committed


def check(history: Iterable[Operation], *, want_g0: bool = False) -> Report:
    """Return the anomalies by name with a line for each; empty when all is well."""
    return _Checker(list(history)).run(want_g0=want_g0)


class _Checker:
    def __init__(self, history: list[Operation]) -> None:
        self.sends = [op for op in history if isinstance(op, Send)]
        self.polls = [op for op in history if isinstance(op, Poll)]
        self.history = history
        self.found: Report = defaultdict(list)
        self.by_value = {send.value: send for send in self.sends}
        # Per partition the value at each offset, of acknowledgements and polls; others apart.
        self.log: dict[Partition, dict[int, Hashable]] = defaultdict(dict)
        self.others: set[tuple[Partition, int, Hashable]] = set()
        self.read: dict[Partition, set[int]] = defaultdict(set)

    def run(self, *, want_g0: bool) -> Report:
        for send in self.sends:
            if send.outcome == OK and send.offset is not None:
                self._place(send.partition, send.offset, send.value)
        for poll in self.polls:
            for partition, offset, value in poll.records:
                self._place(partition, offset, value)
                self.read[partition].add(offset)
                self._read(poll, partition, offset, value)
        self._offsets()
        self._lost()
        self._vanished()
        self._send_order()
        self._poll_order()
        self._commits()
        self._cycles(want_g0=want_g0)
        return dict(self.found)

    def _place(self, partition: Partition, offset: int, value: Hashable) -> None:
        if self.log[partition].setdefault(offset, value) != value:
            self.others.add((partition, offset, value))

    def _read(self, poll: Poll, partition: Partition, offset: int, value: Hashable) -> None:
        send = self.by_value.get(value)
        where = f"{value!r} at {partition}:{offset}"
        if send is None:
            self.found["phantom"].append(where)
        elif send.outcome == FAIL:
            self.found["aborted-read"].append(where)
        elif poll.ended < send.began:
            self.found["future-read"].append(where)
        elif send.txn is not None and send.txn == poll.txn:
            self.found["precommitted-read"].append(where)

    def _offsets(self) -> None:
        for partition, offset, value in self.others:
            values = f"{self.log[partition][offset]!r} and {value!r}"
            self.found["inconsistent-offsets"].append(f"{partition}:{offset}: {values}")
        places: dict[Hashable, tuple[Partition, int]] = {}
        rows = [(p, o, v) for p, offsets in self.log.items() for o, v in offsets.items()]
        for partition, offset, value in (*rows, *self.others):
            first = places.setdefault(value, (partition, offset))
            if first != (partition, offset):
                self.found["duplicate"].append(f"{value!r} at {first} and {(partition, offset)}")

    def _lost(self) -> None:
        seen = {value for poll in self.polls for _, _, value in poll.records}
        last = {partition: max(offsets) for partition, offsets in self.read.items()}
        for send in self.sends:
            if send.outcome == OK and send.value not in seen:
                offset = -1 if send.offset is None else send.offset
                behind = offset > last.get(send.partition, -1)
                name = "unseen" if behind else "lost-write"
                self.found[name].append(f"{send.value!r} at {send.partition}:{send.offset}")

    def _vanished(self) -> None:
        final = {row for poll in self.polls if poll.is_final for row in poll.records}
        if not final:
            return
        for partition, offsets in self.log.items():
            for offset, value in offsets.items():
                if (partition, offset, value) not in final:
                    self.found["vanished"].append(f"{value!r} at {partition}:{offset}")

    def _send_order(self) -> None:
        runs: dict[tuple[int, Partition], list[Send]] = defaultdict(list)
        for send in self.sends:
            if send.outcome == OK and send.offset is not None:
                runs[send.process, send.partition].append(send)
        for run in runs.values():
            run.sort(key=lambda send: send.began)
            for first, second in pairwise(run):
                if second.offset <= first.offset:  # type: ignore[operator]
                    self.found["nonmonotonic-send"].append(f"{first} then {second}")

    def _poll_order(self) -> None:
        order = {partition: sorted(offsets) for partition, offsets in self.log.items()}
        last: dict[tuple[int, Hashable, Partition], int] = {}
        for poll in sorted(self.polls, key=lambda poll: poll.began):
            within: set[Partition] = set()
            for partition, offset, _ in poll.records:
                rank = bisect_left(order[partition], offset)
                key = (poll.process, poll.assignment, partition)
                before = last.get(key)
                if before is not None and rank != before + 1:
                    prefix = "int-" if partition in within else ""
                    name = "poll-skip" if rank > before else "nonmonotonic-poll"
                    text = f"process {poll.process}, {partition}: {order[partition][before]}"
                    self.found[prefix + name].append(f"{text} then {offset}")
                last[key] = rank
                within.add(partition)

    def _commits(self) -> None:
        generations: dict[str, list[Generation]] = defaultdict(list)
        commits: dict[tuple[str, Partition], list[Commit]] = defaultdict(list)
        for op in self.history:
            if isinstance(op, Generation):
                generations[op.group].append(op)
            elif isinstance(op, Commit):
                commits[op.group, op.partition].append(op)
        for group, partition in commits:
            known = generations[group]
            for commit in commits[group, partition]:
                newer = [g for g in known if g.generation > commit.generation >= 0]
                if commit.outcome == OK and any(g.ended < commit.began for g in newer):
                    self.found["stale-commit"].append(str(commit))
        for op in self.history:
            if isinstance(op, Committed):
                self._committed(op, commits[op.group, op.partition])

    def _committed(self, asked: Committed, commits: list[Commit]) -> None:
        """It must be the last commit that had ended, or one that ran beside or after that one."""
        done = [c for c in commits if c.outcome == OK and c.ended < asked.began]
        if not done:
            return
        last_began = max(c.began for c in done)
        possible = {
            c.offset
            for c in commits
            if c.outcome != FAIL and c.began < asked.ended
            if c.outcome == INFO or c.ended >= last_began
        }
        if asked.offset not in possible:
            self.found["lost-commit"].append(f"{asked}, not one of {sorted(possible)}")

    def _cycles(self, *, want_g0: bool) -> None:
        if all(op.txn is None for op in (*self.sends, *self.polls)):
            return  # single sends are only read, and single polls only read: no circle

        def node(op: Send | Poll) -> Hashable:
            return ("txn", op.txn) if op.txn is not None else id(op)

        writers = {send.value: node(send) for send in self.sends}
        ww: dict[Hashable, set[Hashable]] = defaultdict(set)
        wr: dict[Hashable, set[Hashable]] = defaultdict(set)
        for offsets in self.log.values():
            rows = [writers.get(offsets[offset]) for offset in sorted(offsets)]
            for first, second in pairwise(row for row in rows if row is not None):
                if first != second:
                    ww[first].add(second)
        for poll in self.polls:
            for _, _, value in poll.records:
                if value in writers and writers[value] != node(poll):
                    wr[writers[value]].add(node(poll))
        for circle in _circles(wr):
            self.found["G1c"].append(f"transactions {sorted(map(str, circle))}")
        if want_g0:
            for circle in _circles(ww):
                self.found["G0"].append(f"transactions {sorted(map(str, circle))}")


def _circles(edges: dict[Hashable, set[Hashable]]) -> list[list[Hashable]]:
    """Return strongly connected components of more than one node (Tarjan, no recursion)."""
    index: dict[Hashable, int] = {}
    low: dict[Hashable, int] = {}
    stack: list[Hashable] = []
    on_stack: set[Hashable] = set()
    circles = []
    for root in list(edges):
        if root in index:
            continue
        work = [(root, iter(edges[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, following = work[-1]
            for other in following:
                if other not in index:
                    index[other] = low[other] = len(index)
                    stack.append(other)
                    on_stack.add(other)
                    work.append((other, iter(edges.get(other, ()))))
                    break
                if other in on_stack:
                    low[node] = min(low[node], index[other])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])
                if low[node] == index[node]:
                    circle = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        circle.append(member)
                        if member == node:
                            break
                    if len(circle) > 1:
                        circles.append(circle)
    return circles
