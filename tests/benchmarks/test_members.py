"""The benchmark of members runs; what it times is beside one member, on each workload."""

from speed import members


def test_a_quick_run_times_four_members_and_a_wide_one_beside_one():
    steps = members.main(["--quick"])["steps"]

    assert list(steps) == ["ml", "W1", "W2"]
    for found in steps.values():
        assert list(found) == ["one", "four", "wide"]
        assert found["one"]["ratio"]["median"] == 1.0
        assert all(one["milliseconds"] > 0 for one in found.values())
