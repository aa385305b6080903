"""What a coordinator shard asks of its driver, and what the driver owes the shard.

The driver owns the partition behind a shard and runs one **step** at a time, without awaiting
anything inside it:

1. Call an operation: `effects = shard.join_group(call, request, now_ms)`, or `on_timer`.
2. With `effects.records`: append them as one batch.
   * accepted: `shard.replay(record.key, record.value)` for each, in order, at once. From here on
     the records count as applied.
   * refused (the append returned an error, nothing was written): send `reply.refusal(code)`
     instead of each reply's response, then, if `effects.rollback` is set, run the effects it
     returns as the next step. The shard stays usable.
3. Send each `reply.response` once the high watermark covers everything that has been applied to
   the shard so far, the records of this step included. Replies without records wait for the
   records of earlier steps, so that nobody sees state that could still be lost. When nothing is
   outstanding that is at once.
4. Look at `shard.next_deadline()` and arrange for `on_timer` to be called at that time.

Further duties of the driver:

* **Load**: feed the records of the log, in order, to `replay` of a new shard, then run
  `on_loaded(now_ms)` as a step. Records that a later one of the same key supersedes may be left
  out: the log is compacted. Until then it answers `COORDINATOR_LOAD_IN_PROGRESS` itself
  (`fastmq.coordinator.group.error_response` builds such answers).
* **Loss**: when appended records do not get committed (the partition stops leading, its directory
  fails), send `reply.refusal(code)` for every reply still waiting, then the replies of
  `shard.resign(code)`, which answers what the shard had put off; drop the shard. A later leader
  replays a new one.
* **Time**: `now_ms` is milliseconds since the Unix epoch and never goes back (a monotonic clock
  anchored to the wall clock once).

Every operation's `call.token` comes back in exactly one `Reply`: in the effects of the operation
itself, in those of a later step (JoinGroup and SyncGroup wait for other members), or in those of
`resign`. A token is the driver's own object; the shard only carries it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from fastmq.errors import ErrorCode

__all__ = ["Call", "CoordinatorShard", "Effects", "Record", "Reply", "Token"]

# The driver's name for a request that waits for its answer; opaque to the shard.
Token = object


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a coordinator sees it, beside its body.

    Attributes:
        token: comes back in the one `Reply` to this request.
        version: API version of the request; some rules depend on it.
        client_id: from the request header, "" when null.
        client_host: the peer's address as Kafka prints it ("/127.0.0.1").
    """

    token: Token
    version: int
    client_id: str = ""
    client_host: str = ""


class Record(NamedTuple):
    """A record to append to the shard's partition; a value of None is a tombstone."""

    key: bytes
    value: bytes | None


class Reply(NamedTuple):
    """An answer, to be sent when what it tells is committed.

    Attributes:
        token: of the request that is answered.
        response: the message to send.
        refusal: builds the message to send instead when the records were not written or not
            committed; given the error code of the append, it picks Kafka's code for clients.
    """

    token: Token
    response: object
    refusal: Callable[[ErrorCode], object]


@dataclass(slots=True)
class Effects:
    """What one step asks of the driver.

    Attributes:
        records: to append as one batch, all or none.
        replies: answers that this step made ready, in the order to send them.
        rollback: takes back what this step changed in memory, given `now_ms`; to be called only
            when the append of `records` was refused. Its effects are a step of their own.
    """

    records: list[Record] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    rollback: Callable[[int], "Effects"] | None = None


class CoordinatorShard(Protocol):
    """What every coordinator offers to its driver beside its operations."""

    def replay(self, key: bytes, value: bytes | None) -> None:
        """Apply one record of the log: the only way durable state changes."""

    def on_loaded(self, now_ms: int) -> Effects:
        """Start serving after the last record of the log was replayed."""

    def next_deadline(self) -> int | None:
        """Return when `on_timer` has something to do, None for never; cheap."""

    def on_timer(self, now_ms: int) -> Effects:
        """Do what is due. Call again while `next_deadline()` is not after `now_ms`."""

    def resign(self, code: ErrorCode) -> Effects:
        """Refuse every request that was put off, with `code`; the shard is dead afterwards."""
