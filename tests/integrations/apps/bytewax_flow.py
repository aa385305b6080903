"""Bytewax: a dataflow from one topic to another."""

import sys

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

bootstrap, source, target, group, count = sys.argv[1:]
flow = Dataflow("shout")
# tail=False: it ends at the end of the topic.
records = op.input("in", flow, KafkaSource([bootstrap], [source], tail=False))
shouted = op.map("shout", records, lambda record: KafkaSinkMessage(None, record.value.upper()))
op.output("out", shouted, KafkaSink([bootstrap], target))
run_main(flow)
