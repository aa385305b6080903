"""The judge must be able to find what it looks for."""

from support.judge import Judge, expected_bytes


def report(member, *lines):
    judge = Judge()
    feed(judge, member, *lines)
    return judge


def feed(judge, member, *lines):
    for line in lines:
        judge.line(member, line)


def line(partition, offset, number, key="s0-k0"):
    return f"{partition} {offset} {key} {number} {expected_bytes(number)}"


def test_a_clean_run_has_no_faults():
    judge = report("a", "R", line(0, 0, 0), line(0, 1, 50))
    feed(judge, "b", "R", line(1, 0, 1, "s0-k1"))
    assert not judge.faults
    assert not judge.order_faults()
    assert judge.missing({0: 2}, 50) == []
    assert (judge.duplicates(), judge.redelivered, judge.assignments) == (0, 0, 2)


def test_a_hole_is_missing():
    assert report("a", line(0, 0, 0)).missing({0: 2}, 50) == [("s0-k1", 1)]


def test_one_record_at_two_offsets_is_a_duplicate():
    judge = report("a", line(0, 0, 0), line(0, 1, 0))
    assert judge.duplicates() == 1


def test_the_same_offset_for_two_members_is_a_redelivery_and_no_duplicate():
    judge = report("a", line(0, 0, 0))
    feed(judge, "b", line(0, 0, 0))
    assert (judge.redelivered, judge.duplicates()) == (1, 0)


def test_a_step_back_needs_a_new_assignment():
    assert report("a", line(0, 1, 50), line(0, 0, 0)).faults
    assert not report("a", line(0, 1, 50), "R", line(0, 0, 0)).faults


def test_two_records_at_one_offset_are_a_fault():
    judge = report("a", line(0, 0, 0))
    feed(judge, "b", line(0, 0, 50))
    assert judge.faults


def test_swapped_numbers_and_wandering_keys_break_the_order():
    assert report("a", line(0, 0, 50), line(0, 1, 0)).order_faults()
    assert report("a", line(0, 0, 0), line(1, 0, 50)).order_faults()


def test_a_cut_value_is_a_fault():
    assert report("a", f"0 0 s0-k0 5 {expected_bytes(5) - 1}").faults


def test_members_out_of_step_go_back_once_per_assignment():
    judge = Judge(tells_assignments=False)
    feed(judge, "a", line(0, 1, 50), line(0, 0, 0), "R", line(0, 1, 50))
    assert judge.unexplained_steps() == []
    assert not judge.faults
    feed(judge, "a", line(0, 1, 50))
    assert judge.unexplained_steps() == ["a: 2 steps back in partition 0, 1 times assigned"]
