"""Settings of topics and brokers: read, change one by one. Pure. Source: KIP-133, 226, 339."""

from collections.abc import Iterable, Mapping
from typing import Final

from fastmq.client.admin.refusals import moved, refusal
from fastmq.client.admin.results import ConfigSource, ConfigValue
from fastmq.client.admin.steps import Ask, Steps
from fastmq.client.admin.topics import config_text
from fastmq.client.calls import AnyNode, Controller, Node, Target
from fastmq.errors import ErrorCode
from fastmq.protocol.messages.describe_configs import (
    DescribeConfigsEntry,
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResult,
)
from fastmq.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsEntry,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
)

__all__ = ["alter", "broker", "describe", "describe_topics", "topic"]

_TOPIC: Final = 2
_BROKER: Final = 4
# Topics whose settings one request asks for.
_RESOURCES_MAX: Final = 500
_SET, _DELETE, _APPEND, _SUBTRACT = range(4)

Value = str | int | float | bool
#: Type and name of a resource; a broker without a name stands for all brokers.
Resource = tuple[int, str]


def topic(name: str) -> Resource:
    """A topic's settings."""
    return _TOPIC, name


def broker(node_id: int | None) -> Resource:
    """A broker's settings; None: what is set for all brokers."""
    return _BROKER, "" if node_id is None else str(node_id)


def describe(
    resource: Resource, names: Iterable[str] | None, *, documentation: bool
) -> Steps[dict[str, ConfigValue]]:
    """Return settings by name, sorted."""
    message = _question([resource], names, documentation=documentation)
    (response,) = yield [Ask(_reader(resource), message)]
    (row,) = response.results
    if row.error_code:
        raise refusal(row.error_code, _text(resource), row.error_message)
    return _values(row)


def describe_topics(
    topics: Iterable[str], names: Iterable[str]
) -> Steps[dict[str, dict[str, ConfigValue]]]:
    """Return some settings of many topics, in requests of bounded size; those gone are left out."""
    pending, wanted = list(topics), list(names)
    found: dict[str, dict[str, ConfigValue]] = {}
    for begin in range(0, len(pending), _RESOURCES_MAX):
        page = [topic(name) for name in pending[begin : begin + _RESOURCES_MAX]]
        (response,) = yield [Ask(AnyNode(), _question(page, wanted, documentation=False))]
        for row in response.results:
            if row.error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                continue
            if row.error_code:
                raise refusal(row.error_code, f"topic {row.resource_name}", row.error_message)
            found[row.resource_name] = _values(row)
    return found


def _question(
    resources: Iterable[Resource], names: Iterable[str] | None, *, documentation: bool
) -> DescribeConfigsRequest:
    keys = None if names is None else list(names)
    return DescribeConfigsRequest(
        resources=[
            DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=keys)
            for kind, name in resources
        ],
        include_documentation=documentation,
    )


def _values(row: DescribeConfigsResult) -> dict[str, ConfigValue]:
    values = [_value(entry) for entry in row.configs]
    return {value.name: value for value in sorted(values, key=lambda value: value.name)}


def alter(
    resource: Resource,
    *,
    set_: Mapping[str, Value] | None = None,
    delete: Iterable[str] = (),
    append: Mapping[str, Value] | None = None,
    subtract: Mapping[str, Value] | None = None,
    validate_only: bool,
    anywhere: bool = False,
) -> Steps[None]:
    """Change settings, all or none of them; `anywhere`: ask any broker, the one does not serve."""
    kind, name = resource
    changes = [
        IncrementalAlterConfigsEntry(name=key, config_operation=operation, value=config_text(value))
        for operation, values in ((_SET, set_), (_APPEND, append), (_SUBTRACT, subtract))
        for key, value in (values or {}).items()
    ]
    changes += [
        IncrementalAlterConfigsEntry(name=key, config_operation=_DELETE, value=None)
        for key in delete
    ]
    message = IncrementalAlterConfigsRequest(
        resources=[
            IncrementalAlterConfigsResource(resource_type=kind, resource_name=name, configs=changes)
        ],
        validate_only=validate_only,
    )
    target = Controller() if kind == _TOPIC or not name else _reader(resource)
    if anywhere:
        target = AnyNode()
    (response,) = yield [Ask(target, message, lambda r: moved([x.error_code for x in r.responses]))]
    (row,) = response.responses
    if row.error_code:
        raise refusal(row.error_code, _text(resource), row.error_message)


def _reader(resource: Resource) -> Target:
    """Only the broker itself knows the settings in its own file."""
    kind, name = resource
    return Node(int(name)) if kind == _BROKER and name else AnyNode()


def _text(resource: Resource) -> str:
    kind, name = resource
    return f"topic {name}" if kind == _TOPIC else f"broker {name or '(all)'}"


def _value(entry: DescribeConfigsEntry) -> ConfigValue:
    try:
        source = ConfigSource(entry.config_source)
    except ValueError:
        source = ConfigSource.UNKNOWN
    return ConfigValue(
        entry.name,
        entry.value,
        source,
        entry.read_only,
        entry.is_sensitive,
        entry.documentation,
    )
