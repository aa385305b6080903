"""Settings of topics and brokers: read, change one by one. Pure. Source: KIP-133, 226, 339."""

from collections.abc import Iterable, Mapping
from typing import Final

from fastmq.client.admin.refusals import moved, refusal
from fastmq.client.admin.results import ConfigSource, ConfigValue
from fastmq.client.admin.steps import Ask, Steps
from fastmq.client.admin.topics import config_text
from fastmq.client.calls import AnyNode, Controller, Node, Target
from fastmq.protocol.messages.describe_configs import (
    DescribeConfigsEntry,
    DescribeConfigsRequest,
    DescribeConfigsResource,
)
from fastmq.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsEntry,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
)

__all__ = ["alter", "broker", "describe", "topic"]

_TOPIC: Final = 2
_BROKER: Final = 4
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
    kind, name = resource
    message = DescribeConfigsRequest(
        resources=[
            DescribeConfigsResource(
                resource_type=kind,
                resource_name=name,
                configuration_keys=None if names is None else list(names),
            )
        ],
        include_documentation=documentation,
    )
    (response,) = yield [Ask(_reader(resource), message)]
    (row,) = response.results
    if row.error_code:
        raise refusal(row.error_code, _text(resource), row.error_message)
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
) -> Steps[None]:
    """Change settings, all or none of them."""
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
