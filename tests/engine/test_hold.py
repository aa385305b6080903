"""A sync begins when the reactor finds nothing else to do, so that all who have come share it."""

from pathlib import Path

from support.batches import batch
from support.engine import Harness, only, produce

CLIENTS = 16


def test_producers_that_come_in_one_turn_share_a_sync(tmp_path: Path) -> None:
    harness = Harness(tmp_path, stepped=True)
    partition = harness.partition()
    engine = harness.engine

    def syncs_until(end: int) -> int:
        before = engine.metrics()["syncs"]
        while partition.synced() < end:
            engine.run_once(100)
        return engine.metrics()["syncs"] - before

    harness.client().send(9, produce((0, batch(b"the file is made with the first"))))
    syncs_until(1)
    clients = [harness.client() for _ in range(CLIENTS)]
    for client in clients:
        client.send(9, produce((0, batch(b"x"))))
    engine.run_once(0)
    assert partition.log_end() == 1 + CLIENTS, "all were served in one turn"
    assert engine.next_timeout_ms() == 0, "what is held is looked at again at once"
    assert syncs_until(1 + CLIENTS) == 1
    answers = [only(client.receive(0, 9)[1]) for client in clients]
    assert sorted(answer.base_offset for answer in answers) == list(range(1, 1 + CLIENTS))
    harness.close()
