"""Micro-benchmarks of the message codec: python perf/micro/codec.py [-o FILE] [pyperf options].

The yardstick is a Metadata answer (version 12) of one topic with 100 partitions: below 40 us to
encode and 60 us to decode. The small frames are what a group member sends all day.
"""

import pyperf

from fastmq.protocol import decode, decode_request, encode, encode_request, encode_response
from fastmq.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from fastmq.protocol.messages.metadata import (
    MetadataBroker,
    MetadataPartition,
    MetadataResponse,
    MetadataTopic,
)


def metadata_answer(partitions: int) -> MetadataResponse:
    """Build an answer of one topic on three brokers."""
    return MetadataResponse(
        brokers=[MetadataBroker(node_id=i, host=f"broker-{i}", port=9092) for i in range(3)],
        cluster_id="x" * 22,
        controller_id=1,
        topics=[
            MetadataTopic(
                name="events",
                topic_id=bytes(range(16)),
                partitions=[
                    MetadataPartition(
                        partition_index=i,
                        leader_id=i % 3,
                        leader_epoch=5,
                        replica_nodes=[0, 1, 2],
                        isr_nodes=[0, 1, 2],
                    )
                    for i in range(partitions)
                ],
            )
        ],
    )


def main() -> None:
    """Run all."""
    runner = pyperf.Runner()
    answer = metadata_answer(100)
    encoded = encode(answer, 12)
    beat = encode_request(4, 7, "client", HeartbeatRequest(group_id="g", member_id="m"))
    runner.bench_func("metadata-100: build", metadata_answer, 100)
    runner.bench_func("metadata-100: encode", encode, answer, 12)
    runner.bench_func("metadata-100: decode", decode, MetadataResponse, 12, encoded)
    runner.bench_func("heartbeat: decode request", decode_request, beat)
    runner.bench_func("heartbeat: encode response", encode_response, 12, 4, 7, HeartbeatResponse())


if __name__ == "__main__":
    main()
