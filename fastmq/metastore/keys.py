"""What is stored under which key, and how.

| key | value (JSON) | who writes it |
|---|---|---|
| `brokers/<id, 10 digits>` | `{"e": epoch, "l": [[name, host, port]], ...}` | the broker |
| `cluster` | `{"id": cluster id, "level": of the format}` | the first broker, once |
| `controller` | `{"b": broker}`, under the lease of its session | who becomes controller |
| `configs/broker/<id or empty>` | `{key: text}` | admin requests |
| `configs/topic/<name>` | `{key: text}` | admin requests |
| `partitions/<topic id>/<index, 6 digits>` | `{"l": leader, "e": leader epoch, ...}` | controller |
| `producer-ids` | `{"next": first id not handed out}` | any broker |
| `sessions/<id, 10 digits>` | `{"e": epoch}`, under a lease | the broker, while it lives |
| `topics/<name>` | `{"id": topic id, "n": partitions}` | controller |

Ids are 22 base64 characters. Partitions are keyed by the id of their topic, so that those of a
deleted topic never pass for those of its successor, and so that they sort, and arrive, before
their topic's own row. Readers ignore keys and JSON members that they do not know.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from fastmq.cluster import (
    ANY_REVISION,
    BrokerState,
    Change,
    ConfigKind,
    DropBroker,
    DropConfig,
    DropController,
    DropPartition,
    DropSession,
    DropTopic,
    Endpoint,
    PartitionState,
    PutBroker,
    PutConfig,
    PutController,
    PutPartition,
    PutSession,
    PutTopic,
)
from fastmq.ids import uuid_from_text, uuid_text
from fastmq.limits import METASTORE_PARTITION_STATES_CACHED
from fastmq.metastore.interface import Compare, Delete, Event, Item, MetastoreError, Op, Put

__all__ = [
    "CLUSTER_KEY",
    "CONTROLLER_KEY",
    "PRODUCER_IDS_KEY",
    "broker_key",
    "change_of",
    "config_key",
    "decode_json",
    "encode_json",
    "operation_of",
    "partition_key",
    "session_key",
    "topic_key",
]

CLUSTER_KEY: Final = "cluster"
CONTROLLER_KEY: Final = "controller"
PRODUCER_IDS_KEY: Final = "producer-ids"

_BROKERS: Final = "brokers/"
_SESSIONS: Final = "sessions/"
_TOPICS: Final = "topics/"
_PARTITIONS: Final = "partitions/"
_CONFIGS: Final = "configs/"

_encode_text = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def broker_key(broker_id: int) -> str:
    """Return the key of a broker's registration."""
    return f"{_BROKERS}{broker_id:010d}"


def session_key(broker_id: int) -> str:
    """Return the key that a broker holds while it lives."""
    return f"{_SESSIONS}{broker_id:010d}"


def topic_key(name: str) -> str:
    """Return the key of a topic."""
    return _TOPICS + name


def partition_key(topic_id: bytes, index: int) -> str:
    """Return the key of a partition's state."""
    return f"{_PARTITIONS}{uuid_text(topic_id)}/{index:06d}"


def config_key(kind: ConfigKind, name: str) -> str:
    """Return the key of the overrides of a topic, a broker or all brokers."""
    return f"{_CONFIGS}{kind.value}/{name}"


def encode_json(value: Mapping[str, object]) -> bytes:
    """Return compact JSON."""
    return _encode_text(value).encode()


# JSON values have any type; what is taken out of them is checked where it is used.
def decode_json(key: str, value: bytes) -> dict[str, Any]:
    """Return the object in a value.

    Raises:
        MetastoreError: the value is no JSON object.
    """
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise MetastoreError(f"the metadata store holds no JSON object under {key}")
    return found


def operation_of(change: Change) -> tuple[Compare | None, Op]:
    """Return the guard and the operation that make a change happen."""
    operation = _operation(change)
    if change.expected == ANY_REVISION:
        return None, operation
    return Compare(operation.key, change.expected), operation


def _operation(change: Change) -> Op:
    match change:
        case PutPartition(topic_id, index, state):
            return Put(partition_key(topic_id, index), _partition_value(state))
        case PutTopic(name, topic_id, partition_count):
            value = {"id": uuid_text(topic_id), "n": partition_count}
            return Put(topic_key(name), encode_json(value))
        case PutConfig(kind, name, values):
            return Put(config_key(kind, name), encode_json(values))
        case PutBroker(broker):
            return Put(broker_key(broker.id), _broker_value(broker))
        case PutSession(broker_id, epoch, lease):
            return Put(session_key(broker_id), encode_json({"e": epoch}), lease)
        case PutController(broker_id, lease):
            return Put(CONTROLLER_KEY, encode_json({"b": broker_id}), lease)
        case DropSession(broker_id):
            return Delete(session_key(broker_id))
        case DropController():
            return Delete(CONTROLLER_KEY)
        case DropPartition(topic_id, index):
            return Delete(partition_key(topic_id, index))
        case DropTopic(name):
            return Delete(topic_key(name))
        case DropConfig(kind, name):
            return Delete(config_key(kind, name))
        case DropBroker(broker_id):
            return Delete(broker_key(broker_id))


def _partition_value(state: PartitionState) -> bytes:
    value: dict[str, object] = {
        "l": state.leader,
        "e": state.leader_epoch,
        "p": state.partition_epoch,
        "r": state.replicas,
        "i": state.isr,
        "d": [uuid_text(directory) for directory in state.directories],
    }
    # Only where there is one: these are the exceptions, and rows are many.
    rare = {"add": state.adding, "rm": state.removing, "elr": state.elr}
    value.update((key, brokers) for key, brokers in rare.items() if brokers)
    if state.last_known >= 0:
        value["last"] = state.last_known
    return encode_json(value)


def _broker_value(broker: BrokerState) -> bytes:
    value: dict[str, object] = {
        "e": broker.epoch,
        "l": broker.endpoints,
        "d": [uuid_text(directory) for directory in broker.directories],
    }
    if broker.rack is not None:
        value["rack"] = broker.rack
    if broker.host:
        value["host"] = broker.host
    if broker.boot_id:
        value["boot"] = broker.boot_id
    if broker.fenced:
        value["fenced"] = True
    if broker.cordoned:
        value["cord"] = [uuid_text(directory) for directory in broker.cordoned]
    return encode_json(value)


def change_of(row: Item | Event) -> Change | None:
    """Return what a stored row says, or what a watched event changes; None for other keys.

    Raises:
        MetastoreError: the value cannot be read.
    """
    if row.key != CONTROLLER_KEY and not row.key.startswith(
        (_PARTITIONS, _TOPICS, _CONFIGS, _BROKERS, _SESSIONS)
    ):
        return None
    try:
        return _dropped(row.key) if row.value is None else _put(row.key, row.value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MetastoreError(
            f"the metadata store holds a row that cannot be read, {row.key}: {error!r}"
        ) from None


def _put(key: str, value: bytes) -> Change:
    if key.startswith(_PARTITIONS):
        topic_id, index = _partition_of(key)
        return PutPartition(topic_id, index, _partition_state(value), ANY_REVISION)
    found = decode_json(key, value)
    if key.startswith(_TOPICS):
        topic_id = uuid_from_text(found["id"])
        return PutTopic(key.removeprefix(_TOPICS), topic_id, int(found["n"]), ANY_REVISION)
    if key.startswith(_CONFIGS):
        kind, name = _config_of(key)
        values = {str(name): str(text) for name, text in found.items()}
        return PutConfig(kind, name, values, ANY_REVISION)
    if key.startswith(_SESSIONS):
        return PutSession(int(key.removeprefix(_SESSIONS)), int(found["e"]), 0, ANY_REVISION)
    if key == CONTROLLER_KEY:
        return PutController(int(found["b"]), 0, ANY_REVISION)
    return PutBroker(_broker_state(int(key.removeprefix(_BROKERS)), found), ANY_REVISION)


def _dropped(key: str) -> Change:
    if key.startswith(_PARTITIONS):
        return DropPartition(*_partition_of(key), ANY_REVISION)
    if key.startswith(_TOPICS):
        return DropTopic(key.removeprefix(_TOPICS), ANY_REVISION)
    if key.startswith(_CONFIGS):
        return DropConfig(*_config_of(key), ANY_REVISION)
    if key.startswith(_SESSIONS):
        return DropSession(int(key.removeprefix(_SESSIONS)), ANY_REVISION)
    if key == CONTROLLER_KEY:
        return DropController(ANY_REVISION)
    return DropBroker(int(key.removeprefix(_BROKERS)), ANY_REVISION)


def _partition_of(key: str) -> tuple[bytes, int]:
    topic_id, _, index = key.removeprefix(_PARTITIONS).partition("/")
    return uuid_from_text(topic_id), int(index)


def _config_of(key: str) -> tuple[ConfigKind, str]:
    kind, _, name = key.removeprefix(_CONFIGS).partition("/")
    return ConfigKind(kind), name


# Most partitions of a broker have the same few states. Reading them once makes a load twice as
# fast, and their tuples are shared.
@lru_cache(maxsize=METASTORE_PARTITION_STATES_CACHED)
def _partition_state(value: bytes) -> PartitionState:
    found = decode_json(_PARTITIONS, value)
    return PartitionState(
        leader=int(found["l"]),
        leader_epoch=int(found["e"]),
        partition_epoch=int(found["p"]),
        replicas=tuple(found["r"]),
        isr=tuple(found["i"]),
        directories=_directories(found["d"]),
        adding=tuple(found.get("add", ())),
        removing=tuple(found.get("rm", ())),
        elr=tuple(found.get("elr", ())),
        last_known=int(found.get("last", -1)),
    )


def _broker_state(broker_id: int, found: Mapping[str, Any]) -> BrokerState:
    endpoints = tuple(Endpoint(name, host, int(port)) for name, host, port in found["l"])
    return BrokerState(
        id=broker_id,
        epoch=int(found["e"]),
        endpoints=endpoints,
        rack=found.get("rack"),
        host=found.get("host", ""),
        boot_id=found.get("boot", ""),
        directories=_directories(found["d"]),
        fenced=bool(found.get("fenced", False)),
        cordoned=_directories(found.get("cord", ())),
    )


def _directories(texts: Iterable[str]) -> tuple[bytes, ...]:
    return tuple(uuid_from_text(text) for text in texts)
