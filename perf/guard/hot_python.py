"""Hot functions of the Python side, for counting their instructions: hot_python.py CASE COUNT."""

import gc
import sys
from collections.abc import Callable

from fastmq.protocol import decode, decode_request, encode, encode_request, encode_response
from fastmq.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from fastmq.protocol.messages.metadata import (
    MetadataBroker,
    MetadataPartition,
    MetadataResponse,
    MetadataTopic,
)
from fastmq.records import NewRecord, build_batch, read_batches

PARTITIONS = 20
WARM_UP = 20  # tables are built at first use
RECORDS = [NewRecord(b"key-%d" % i, bytes(100)) for i in range(20)]
BATCH = build_batch(RECORDS)
BEAT = encode_request(4, 7, "client", HeartbeatRequest(group_id="g", member_id="m"))
ANSWER = MetadataResponse(
    brokers=[MetadataBroker(node_id=1, host="broker-1", port=9092)],
    cluster_id="x" * 22,
    controller_id=1,
    topics=[
        MetadataTopic(
            name="events",
            topic_id=bytes(range(16)),
            partitions=[
                MetadataPartition(
                    partition_index=i,
                    leader_id=1,
                    leader_epoch=5,
                    replica_nodes=[1],
                    isr_nodes=[1],
                )
                for i in range(PARTITIONS)
            ],
        )
    ],
)
ENCODED = encode(ANSWER, 12)

CASES: dict[str, Callable[[], object]] = {
    "encode metadata, 20 partitions": lambda: encode(ANSWER, 12),
    "decode metadata, 20 partitions": lambda: decode(MetadataResponse, 12, ENCODED),
    "decode a heartbeat request": lambda: decode_request(BEAT),
    "encode a heartbeat response": lambda: encode_response(12, 4, 7, HeartbeatResponse()),
    "build a batch of 20 records": lambda: build_batch(RECORDS),
    "read a batch of 20 records": lambda: [list(b.records()) for b in read_batches(BATCH)],
}


def main() -> None:
    if sys.argv[1:] == ["--list"]:
        print("\n".join(CASES))
        return
    run = CASES[sys.argv[1]]
    for _ in range(WARM_UP):
        run()
    gc.disable()
    for _ in range(int(sys.argv[2])):
        run()


main()
