"""The starter of Apache Kafka starts a broker that works, and leaves nothing behind."""

import pytest
from confluent_kafka import Consumer, Producer

from support import apache_kafka


@pytest.mark.slow
@pytest.mark.interop
def test_a_record_goes_through_apache_kafka_and_survives_a_restart(tmp_path):
    why = apache_kafka.missing()
    if why:
        pytest.skip(why)
    with apache_kafka.ApacheKafka(tmp_path) as kafka:
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        producer.produce("greetings", b"hello")
        assert producer.flush(30) == 0
        kafka.stop()
        kafka.start()
        consumer = Consumer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "group.id": "readers",
                "auto.offset.reset": "earliest",
            }
        )
        consumer.subscribe(["greetings"])
        message = consumer.poll(30)
        consumer.close()
        assert message is not None
        assert message.value() == b"hello"
        pid = kafka.pid
    assert not kafka.is_running()
    assert kafka.process is None
    assert pid > 0


def test_a_machine_without_java_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "no JVM" in (apache_kafka.missing() or "")
