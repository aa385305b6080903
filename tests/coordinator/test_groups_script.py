"""Goal: whole conversations with a group go as Kafka's clients expect them."""

from support.coordinator import Coordinator


def test_members_join_sync_commit_and_survive_a_restart() -> None:
    c = Coordinator()
    ids, generation = c.stable_group(3)
    assert c.state() == "Stable"
    assert c.commit({("t", 0): 5}, member_id=ids[0], generation=generation) == [0]

    before = c.describe()
    c.restart()

    assert c.describe() == before
    assert c.fetch({"t": [0, 1]}) == {("t", 0): 5, ("t", 1): -1}
    assert [c.heartbeat(member, generation) for member in ids] == [0, 0, 0]
