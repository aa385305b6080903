"""The driver for clusters over several machines: etcd, API v3, through its JSON gateway.

Each transaction is one etcd transaction, so revisions are etcd's own: they also grow when others
write to the same etcd, outside of our prefix. Reads are linearizable, and read page by page at one
revision. What etcd takes is bounded: 128 operations and as many comparisons per transaction.

Time-outs. A transaction with operations is sent to one member; when that does not answer, it ends
in `MetastoreUnavailableError` and may have happened. Everything else is repeated at the other
members until the time is over; renewals of a lease sooner than other requests, where it is short.
Leases last whole seconds, rounded up, and at least as long as two
elections of etcd: a lease may live longer than was asked for, never shorter. Watches outlive
members (`etcd_watch`).

etcd 3.4 and newer; use 3.5.33, 3.6.14, 3.7.1 or newer where others have access to the same etcd.
The gateway cannot log in by certificate: use user and password.
"""

import base64
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import trio

from fastmq.limits import ETCD_OPS_MAX, ETCD_PAGE_ROWS, METASTORE_VALUE_BYTES_MAX
from fastmq.metastore.etcd_http import EtcdHttp, EtcdOptions, EtcdRefusedError
from fastmq.metastore.etcd_watch import EtcdWatch
from fastmq.metastore.interface import (
    Compare,
    Conflict,
    Event,
    Item,
    Metastore,
    MetastoreError,
    MetastoreUnavailableError,
    Op,
    Put,
    Snapshot,
)

__all__ = ["EtcdMetastore", "EtcdOptions"]

_RANGE: Final = "/v3/kv/range"
_TXN: Final = "/v3/kv/txn"
# gRPC: the revision is compacted, or in the future.
_OUT_OF_RANGE: Final = 11
_READS_MAX: Final = 5
# A lease is renewed three times in its life: so many members can be asked in the last third of it,
# and a little more, so that one that hangs costs no lease.
_MEMBERS_ASKED: Final = 4


class EtcdMetastore(Metastore):
    """A metadata store in etcd.

    Args:
        options: where it is and how to log in.
    """

    ops_max = ETCD_OPS_MAX

    def __init__(self, options: EtcdOptions) -> None:
        self._http = EtcdHttp(options)
        self._prefix = options.prefix
        self._watches: set[EtcdWatch] = set()
        self._renewal_timeout_s = self._http.timeout_s

    async def open(self) -> None:
        """Prepare, and see that a member answers.

        Raises:
            MetastoreError: the login or a certificate is refused.
            MetastoreUnavailableError: no member answers.
        """
        self._http.open()
        try:
            await self._range("", limit=1, keys_only=True)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._http.close()
            raise

    async def run(self) -> None:
        """Nothing is to be done: etcd ends leases, and watches feed themselves."""
        await trio.sleep_forever()

    async def close(self) -> None:
        """Close all connections; watches end. Idempotent."""
        with trio.CancelScope(shield=True):
            for watch in list(self._watches):
                await watch.stop()
            await self._http.close()

    # Keys and values.

    async def read(self, prefix: str) -> Snapshot:
        """Return all items whose key begins with `prefix`, as of one moment."""
        for _ in range(_READS_MAX):
            answer = await self._range(prefix)
            items, revision = self._items(answer), _revision(answer)
            try:
                while answer.get("more"):
                    answer = await self._range(prefix, after=items[-1].key, revision=revision)
                    items += self._items(answer)
            except EtcdRefusedError as exc:
                # Compacted between two pages: read a newer moment.
                if exc.code != _OUT_OF_RANGE:
                    raise
            else:
                return Snapshot(items, revision)
        raise MetastoreUnavailableError("etcd is compacted faster than it can be read")

    def _items(self, answer: dict[str, Any]) -> list[Item]:
        return [self._item(row) for row in answer.get("kvs", ())]

    async def _range(
        self,
        prefix: str,
        *,
        after: str | None = None,
        revision: int = 0,
        limit: int = ETCD_PAGE_ROWS,
        keys_only: bool = False,
    ) -> dict[str, Any]:
        begin = self._prefix + prefix if after is None else self._prefix + after + "\0"
        body = {
            "key": _b64(begin.encode()),
            "range_end": _b64(end_of_prefix((self._prefix + prefix).encode())),
            "limit": str(limit),
            "revision": str(revision),
            "keys_only": keys_only,
        }
        return await self._http.call(_RANGE, body, idempotent=True)

    def _item(self, row: dict[str, str]) -> Item:
        return Item(
            self._key(row), base64.b64decode(row.get("value", "")), int(row["mod_revision"])
        )

    def _key(self, row: dict[str, str]) -> str:
        return base64.b64decode(row["key"]).decode().removeprefix(self._prefix)

    def _at(self, key: str) -> str:
        return _b64((self._prefix + key).encode())

    async def txn(self, compares: Sequence[Compare], ops: Sequence[Op]) -> int | Conflict:
        """Do all operations if all comparisons hold, else none."""
        if max(len(compares), len(ops)) > self.ops_max:
            raise MetastoreError(f"a transaction has at most {self.ops_max} operations")
        body = {
            "compare": [
                {
                    "key": self._at(compare.key),
                    "target": "MOD",
                    "result": "EQUAL",
                    "mod_revision": str(compare.revision),
                }
                for compare in compares
            ],
            "success": [self._operation(op) for op in ops],
            # What stands there instead, to name the keys that were in the way.
            "failure": [
                {"request_range": {"key": self._at(compare.key), "keys_only": True}}
                for compare in compares
            ],
        }
        answer = await self._http.call(_TXN, body, idempotent=not ops)
        # The gateway leaves out what is false or zero.
        if answer.get("succeeded"):
            return _revision(answer)
        found = [self._found_revision(part) for part in answer.get("responses", ())]
        return Conflict(
            tuple(
                compare.key
                for compare, revision in zip(compares, found, strict=True)
                if compare.revision != revision
            )
        )

    def _operation(self, op: Op) -> dict[str, object]:
        if not isinstance(op, Put):
            return {"request_delete_range": {"key": self._at(op.key)}}
        if len(op.value) > METASTORE_VALUE_BYTES_MAX:
            raise MetastoreError(f"{op.key}: the value has {len(op.value)} bytes")
        put = {"key": self._at(op.key), "value": _b64(op.value), "lease": str(op.lease)}
        return {"request_put": put}

    @staticmethod
    def _found_revision(part: dict[str, Any]) -> int:
        rows = part.get("response_range", {}).get("kvs", ())
        return int(rows[0]["mod_revision"]) if rows else 0

    def watch(self, prefix: str, from_revision: int) -> AsyncIterator[list[Event]]:
        """Iterate over the events below `prefix`, a list per revision."""
        key = (self._prefix + prefix).encode()
        request = {"key": _b64(key), "range_end": _b64(end_of_prefix(key)), "progress_notify": True}
        return EtcdWatch(self._http, request, self._event, from_revision, self._watches)

    def _event(self, row: dict[str, Any]) -> Event:
        item = row["kv"]
        is_delete = row.get("type") == "DELETE"
        value = None if is_delete else base64.b64decode(item.get("value", ""))
        return Event(self._key(item), value, int(item["mod_revision"]))

    # Leases.

    async def grant_lease(self, ttl_ms: int) -> int:
        """Return a new lease id; it lasts whole seconds, rounded up."""
        if ttl_ms <= 0:
            raise MetastoreError("a lease lasts at least 1 ms")
        # Repeated after a time-out, a lease that nobody uses is left to run out.
        self._renewal_timeout_s = min(self._http.timeout_s, ttl_ms / 1000 / _MEMBERS_ASKED)
        body = {"TTL": str(-(-ttl_ms // 1000)), "ID": "0"}
        answer = await self._http.call("/v3/lease/grant", body, idempotent=True)
        return int(answer["ID"])

    async def keep_alive(self, lease: int) -> bool:
        """Prolong a lease; False when it has ended."""
        answer = await self._http.call(
            "/v3/lease/keepalive",
            {"ID": str(lease)},
            idempotent=True,
            timeout_s=self._renewal_timeout_s,
        )
        return int(answer.get("result", {}).get("TTL", 0)) > 0

    async def revoke_lease(self, lease: int) -> None:
        """End a lease now and delete its keys."""
        try:
            await self._http.call("/v3/lease/revoke", {"ID": str(lease)}, idempotent=True)
        except EtcdRefusedError as exc:
            if not exc.is_not_found:
                raise

    async def compact(self, revision: int) -> None:
        """Let etcd forget what was before a revision; operators do it by etcd's own settings."""
        body = {"revision": str(revision), "physical": True}
        await self._http.call("/v3/kv/compaction", body, idempotent=True)


def end_of_prefix(prefix: bytes) -> bytes:
    """Return the first key after all that begin with a prefix; NUL, the end, for an empty one."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\0"


def _revision(answer: dict[str, Any]) -> int:
    return int(answer["header"]["revision"])


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
