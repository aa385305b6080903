"""Quix Streams: records with a count of their own, kept in a state with a changelog topic."""

import sys

from quixstreams import Application
from quixstreams.models import TopicConfig

bootstrap, source, target, group, count = sys.argv[1:]
app = Application(
    broker_address=bootstrap,
    consumer_group=group,
    auto_offset_reset="earliest",
    state_dir=sys.argv[0] + ".state",
    commit_interval=0.2,
)
config = TopicConfig(num_partitions=1, replication_factor=1)
incoming = app.topic(source, value_deserializer="str", key_deserializer="str", config=config)
outgoing = app.topic(target, value_serializer="str", key_serializer="str", config=config)


def counted(text, state):
    state.set("count", state.get("count", 0) + 1)
    return text.upper()


app.dataframe(incoming).apply(counted, stateful=True).to_topic(outgoing)
app.run(count=int(count), timeout=40)
