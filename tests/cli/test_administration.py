"""Commands about topics, groups, settings and the cluster, against a real broker."""

import json

import pytest

from fastmq.client.fronts.admin import Admin


@pytest.fixture
def admin(served):
    with Admin(served.bootstrap) as admin:
        yield admin


def produce(bootstrap, topic, count, partition=0):
    confluent = pytest.importorskip("confluent_kafka")
    producer = confluent.Producer({"bootstrap.servers": bootstrap})
    for number in range(count):
        producer.produce(topic, str(number), partition=partition)
    assert producer.flush(20) == 0


def test_a_topic_from_making_to_deleting(fastmq):
    made = fastmq("topic", "create", "life", "-p", 3, "-c", "retention.ms=60000")
    assert made.out == "topic life created (3 partitions)\n"
    assert fastmq("topic", "create", "life", code=1).err == "fastmq: topic life already exists\n"
    assert "exists already" in fastmq("topic", "create", "life", "--if-not-exists").out
    assert fastmq("topic", "list", "li*").rows == [["life", "3", "1"]]
    assert fastmq("topic", "list", "--names", "lif?").out == "life\n"

    fastmq("topic", "alter", "life", "--set", "segment.bytes=1048576", "--delete", "retention.ms")
    (shown,) = fastmq("topic", "describe", "life", "--json").json
    assert shown["config"]["segment.bytes"] == "1048576"
    assert "retention.ms" not in shown["config"]
    assert [part["partition"] for part in shown["partitions"]] == [0, 1, 2]
    text = fastmq("topic", "describe", "life").out
    assert "config segment.bytes  1048576" in text

    fastmq("topic", "add-partitions", "life", "--add", 2)
    assert (
        "could have 7" in fastmq("topic", "add-partitions", "life", "--total", 7, "--dry-run").out
    )
    assert fastmq("topic", "list", "life", "--json").json[0]["partitions"] == 5
    assert "(it has 5)" in fastmq("topic", "add-partitions", "life", "--total", 2, code=1).err

    assert fastmq("topic", "delete", "--regex", "li.e").out == "topic life deleted\n"
    fastmq("topic", "delete", "life", code=1)
    fastmq("topic", "delete", "life", "--if-exists")


def test_of_several_topics_each_refused_one_is_told(fastmq):
    called = fastmq("topic", "create", "fine", "not fine", "..", code=1)
    assert len(called.err.splitlines()) == 2
    assert fastmq("topic", "list", "fine", "--names").out == "fine\n"


def test_a_dry_run_makes_nothing(fastmq):
    assert "could be created" in fastmq("topic", "create", "never", "--dry-run").out
    assert fastmq("topic", "list", "never", "--names").out == ""
    assert (
        "did you mean retention.ms"
        in fastmq("topic", "create", "never", "-c", "retention.mss=1", code=1).err
    )


def test_offsets_and_trimming(fastmq, served):
    fastmq("topic", "create", "trimmed", "-p", 2)
    produce(served.bootstrap, "trimmed", 10)
    assert fastmq("topic", "offsets", "trimmed").rows == [
        ["trimmed", "0", "0", "10"],
        ["trimmed", "1", "0", "0"],
    ]
    (row,) = fastmq("topic", "offsets", "trimmed:0", "--at", "-1h", "--json").json
    assert row["offset"] == 0
    fastmq("topic", "trim", "trimmed:0", "--offset", 4)
    assert fastmq("topic", "offsets", "trimmed:0").rows == [["trimmed", "0", "4", "10"]]
    fastmq("topic", "trim", "trimmed", "--before", "now")
    assert fastmq("topic", "offsets", "trimmed:0").rows == [["trimmed", "0", "10", "10"]]
    fastmq("topic", "trim", "trimmed", code=2)


def test_settings(fastmq):
    fastmq("topic", "create", "settings")
    fastmq("config", "set", "topic", "settings", "retention.ms=5000", "segment.bytes=2000000")
    fastmq("config", "set", "topic", "settings", "cleanup.policy=compact", "--append")
    rows = fastmq("config", "get", "topic", "settings").rows
    assert ["retention.ms", "5000", "topic", "no"] in rows
    assert ["cleanup.policy", "delete,compact", "topic", "no"] in rows
    fastmq("config", "unset", "topic", "settings", "retention.ms", "cleanup.policy")
    (only,) = fastmq("config", "get", "topic", "settings", "retention.ms", "--json").json
    assert (only["value"], only["source"]) == ("604800000", "default")
    assert (
        "no setting nonsense"
        in fastmq("config", "get", "topic", "settings", "nonsense", code=1).err
    )

    fastmq("config", "set", "brokers", "-", "log.retention.ms=777000")
    assert fastmq("config", "get", "brokers", "-").rows == [
        ["log.retention.ms", "777000", "all", "brokers", "no"]
    ]
    fastmq("config", "unset", "brokers", "-", "log.retention.ms")
    fastmq("config", "get", "broker", "one", code=2)


def test_a_setting_is_explained_without_a_broker(call):
    assert "604800000" in call("config", "explain", "retention.ms").out
    assert "did you mean" in call("config", "explain", "retention.mss", code=1).err


def test_groups_and_their_offsets(fastmq, served, admin, tmp_path):
    fastmq("topic", "create", "read", "-p", 2)
    produce(served.bootstrap, "read", 10)
    plan = fastmq("group", "reset-offsets", "readers", "--topic", "read", "--to-earliest")
    assert "--execute does it" in plan.err
    assert plan.rows == [["read", "0", "-", "0"], ["read", "1", "-", "0"]]
    assert admin.committed_offsets("readers") == {}

    fastmq("group", "reset-offsets", "readers", "-t", "read", "--to-offset", 4, "--execute")
    assert ["readers", "Empty", "classic"] in [row[:3] for row in fastmq("group", "list").rows]
    (shown,) = fastmq("group", "describe", "readers", "--json").json
    assert shown["lag"] == 6
    assert shown["eta_s"] is None
    assert [part["lag"] for part in shown["partitions"]] == [6, 0]
    assert "lag       6" in fastmq("group", "describe", "readers", "--members").out

    for options, expected in (
        (("--to-latest",), 10),
        (("--shift-by", -3), 7),
        (("--by-duration", "1h"), 0),
        (("--to-datetime", "2020-01-01"), 0),
        (("--to-datetime", "-1h"), 0),
        (("--to-offset", 1000), 10),
        (("--to-current",), 10),
    ):
        moved = fastmq(
            "group", "reset-offsets", "readers", "-t", "read:0", *options, "--execute", "--json"
        ).json
        assert [move["after"] for move in moved["offsets"]] == [expected], options
        assert moved["executed"]

    saved = tmp_path / "saved.json"
    saved.write_text(fastmq("group", "reset-offsets", "readers", "--to-current", "--json").out)
    (tmp_path / "moved.csv").write_text("read,0,2\n")
    reset = ("group", "reset-offsets", "readers", "--execute", "--from-file")
    fastmq(*reset, tmp_path / "moved.csv")
    assert admin.committed_offsets("readers")["read", 0].offset == 2
    fastmq(*reset, saved)
    assert admin.committed_offsets("readers")["read", 0].offset == 10
    (tmp_path / "bad.json").write_text("{}")
    fastmq(*reset, tmp_path / "bad.json", code=2)

    fastmq("group", "delete-offsets", "readers", "-t", "read:1")
    assert list(admin.committed_offsets("readers")) == [("read", 0)]
    fastmq("group", "delete", "readers")
    assert "no such group" in fastmq("group", "delete", "readers", code=1).err
    assert "no such group" in fastmq("group", "describe", "readers", code=1).err


def test_where_to_move_offsets_is_said_once(fastmq):
    fastmq("group", "reset-offsets", "g", code=2)
    fastmq("group", "reset-offsets", "g", "--to-latest", "--to-earliest", code=2)
    fastmq("group", "reset-offsets", "g", "--to-latest", "--execute", "--dry-run", code=2)


def test_rates_and_the_time_to_go_come_from_two_looks(fastmq, served, admin):
    """The sample waits on the wall clock, so that another thread can commit meanwhile."""
    from threading import Event, Thread

    fastmq("topic", "create", "rates")
    produce(served.bootstrap, "rates", 100)
    admin.alter_offsets("fast", {("rates", 0): 10})
    stop = Event()

    def commit():
        offset = 10
        while not stop.wait(0.02) and offset < 60:
            offset += 1
            admin.alter_offsets("fast", {("rates", 0): offset})

    thread = Thread(target=commit)
    thread.start()
    try:
        (shown,) = fastmq("group", "describe", "fast", "--sample", "300ms", "--json").json
    finally:
        stop.set()
        thread.join()
    assert shown["consumed_per_s"] > 0
    assert shown["produced_per_s"] == 0
    assert shown["eta_s"] == pytest.approx(shown["lag"] / shown["consumed_per_s"])


def test_cluster(fastmq, served):
    info = fastmq("cluster", "info", "--json").json
    assert info["brokers"][0]["port"] == served.port
    assert f"127.0.0.1:{served.port}" in fastmq("cluster", "info").out
    assert fastmq("cluster", "health", "--json").json["is_healthy"]
    (disk,) = fastmq("cluster", "disks", "--json").json
    assert disk["path"] == str(served.data_dir)
    assert "online" in fastmq("cluster", "disks", "--partitions").out


def test_an_option_that_clients_do_not_have_is_refused(fastmq):
    assert "did you mean client_id" in fastmq("topic", "list", "-X", "client.ids=x", code=2).err
    fastmq("topic", "list", "-X", "client.id=x", "-X", "request.timeout.ms=9000")


def test_nobody_there_is_told_at_once_with_a_code_of_its_own(call):
    called = call("topic", "list", "-b", "127.0.0.1:1", code=3)
    assert "refused" in called.err
    assert "fastmq serve" in called.err
    call("topic", "list", "-b", "nonsense:port", code=2)


def test_a_wrong_command_names_the_right_one(call):
    assert "Did you mean 'topic'?" in call("topics", code=2).err


def test_profiles(call, served, monkeypatch):
    assert "bootstrap_servers=" in call("profile", "set", "one", "linger_ms=5", code=2).err
    call("profile", "set", "one", f"bootstrap.servers={served.bootstrap}", "client_id=me")
    call("profile", "set", "two", "bootstrap_servers=127.0.0.1:1", "linger_ms=5")
    assert call("profile", "list", "--json").json["current"] == "one"
    call("topic", "list")
    call("topic", "list", "--profile", "two", code=3)
    call("profile", "use", "two")
    call("topic", "list", code=3)
    call("topic", "list", "--profile", "one")
    call("topic", "list", "-b", served.bootstrap)
    monkeypatch.setenv("FASTMQ_PROFILE", "one")
    call("topic", "list")
    call("profile", "set", "one", "client_id=")
    assert "client_id" not in call("profile", "show", "one").out
    assert "there are: one, two" in call("topic", "list", "--profile", "three", code=2).err
    call("profile", "delete", "two")
    assert call("profile", "list", "--json").json == {
        "current": None,
        "profiles": {"one": {"bootstrap_servers": served.bootstrap}},
    }


def test_a_broken_profile_file_is_named(call):
    call("profile", "set", "one", "bootstrap_servers=127.0.0.1:1")
    path = call("profile", "path").out.strip()
    with open(path, "a") as file:  # noqa: PTH123
        file.write("[[[")
    assert path in call("topic", "list", code=1).err


def test_names_from_the_profile_survive_quoting(call):
    name = 'a "strange" \\ näme'
    call("profile", "set", name, "bootstrap_servers=127.0.0.1:1")
    assert list(call("profile", "list", "--json").json["profiles"]) == [name]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(call, shell):
    script = call("completion", shell).out
    assert f"_FASTMQ_COMPLETE={shell}_complete" in script
    assert "%(" not in script


def test_completion_of_names(fastmq, served, monkeypatch):
    fastmq("topic", "create", "complete-me")
    fastmq(
        "group", "reset-offsets", "complete-group", "-t", "complete-me", "--to-latest", "--execute"
    )

    def complete(*words):
        from click.shell_completion import ShellComplete

        from fastmq.cli import main

        completer = ShellComplete(main, {}, "fastmq", "_FASTMQ_COMPLETE")
        return [item.value for item in completer.get_completions(list(words[:-1]), words[-1])]

    assert complete("topic", "describe", "complete-") == ["complete-me"]
    assert complete("group", "describe", "complete-") == ["complete-group"]
    assert complete("topic", "create", "x", "-c", "retention.") == [
        "retention.bytes",
        "retention.ms",
    ]
    assert "describe" in complete("topic", "")
    monkeypatch.setenv("FASTMQ_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert complete("topic", "describe", "complete-") == []


def test_every_command_explains_itself_with_examples(call):
    """Each has a --help, and each that does something also shows how."""
    from click import Context, Group

    from fastmq.cli import main

    def visit(command, path):
        help_text = call(*path, "--help").out
        assert "Usage:" in help_text
        if isinstance(command, Group):
            for name in command.list_commands(Context(command)):
                visit(command.get_command(Context(command), name), [*path, name])
            return
        assert command.help, path
        if path[0] not in ("profile", "protocol", "completion"):
            assert "Examples:" in help_text, path
        if path not in (["serve"], ["completion"]):
            assert any(p.name == "as_json" for p in command.params), path

    visit(main, [])


def test_json_without_a_broker(call):
    assert call("profile", "set", "a", "bootstrap_servers=h:1", "--json").json["profile"] == "a"
    assert call("profile", "use", "a", "--json").json == {"current": "a"}
    assert call("profile", "path", "--json").json["file"].endswith("profiles.toml")
    assert call("profile", "delete", "a", "-y", "--json").json["deleted"] == "a"
    (fetch,) = [row for row in call("protocol", "list", "--json").json if row["name"] == "Fetch"]
    shown = call("protocol", "show", "Fetch", 12, "--json").json
    assert (shown["key"], shown["version"], fetch["key"]) == (1, 12, 1)
    (topics,) = [field for field in shown["request"] if field["name"] == "topics"]
    assert topics["type"] == "[struct]"
    assert topics["fields"][0] == {"name": "topic", "type": "string"}


def test_json_is_never_mixed_with_text(fastmq):
    fastmq("topic", "create", "json-only")
    for args in (
        ("topic", "describe", "json-only"),
        ("topic", "list"),
        ("topic", "alter", "json-only", "--set", "retention.ms=1"),
        ("config", "get", "topic", "json-only"),
        ("cluster", "health"),
        ("group", "list"),
        ("topic", "delete", "json-only"),
    ):
        json.loads(fastmq(*args, "--json").out)
