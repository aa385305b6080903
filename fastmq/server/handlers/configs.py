"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, for topics and brokers.

A broker resource with an empty name stands for all brokers. What is stored has been checked
against the table, so that it can always be loaded again. Source: KIP-133, 226, 339, 569.
"""

from collections.abc import Iterable
from typing import Final

from fastmq.cluster import ConfigKind, PutBroker, plan_config
from fastmq.config import (
    Alteration,
    AlterOp,
    ConfigEntry,
    alter_broker,
    alter_topic,
    check_topic_overrides,
)
from fastmq.errors import ConfigError, ErrorCode, KafkaError
from fastmq.protocol.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResponse,
    AlterConfigsResult,
)
from fastmq.protocol.messages.describe_configs import (
    DescribeConfigsEntry,
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from fastmq.protocol.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResource,
    IncrementalAlterConfigsResponse,
    IncrementalAlterConfigsResult,
)
from fastmq.server.context import BrokerContext
from fastmq.server.dispatch import Request

__all__ = [
    "handle_alter_configs",
    "handle_describe_configs",
    "handle_incremental_alter_configs",
]

_TOPIC: Final = 2
_BROKER: Final = 4


# Reading.


def handle_describe_configs(
    context: BrokerContext, _request: Request, message: DescribeConfigsRequest
) -> DescribeConfigsResponse:
    """List settings with their sources, synonyms and documentation."""
    results = []
    for resource in message.resources:
        result = DescribeConfigsResult(
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
            error_message=None,
        )
        try:
            result.configs = [_entry(entry, message) for entry in _describe(context, resource)]
        except KafkaError as exc:
            result.error_code, result.error_message = exc.code, exc.message or None
        results.append(result)
    return DescribeConfigsResponse(results=results)


def _describe(context: BrokerContext, resource: DescribeConfigsResource) -> Iterable[ConfigEntry]:
    keys, name = resource.configuration_keys, resource.resource_name
    if resource.resource_type == _TOPIC:
        topic = context.topics.get(name)
        if topic is None:
            raise KafkaError(context.topics.missing_code(name), f"there is no topic {name}")
        return topic.config.describe(keys)
    if resource.resource_type != _BROKER:
        raise _unknown_type(resource.resource_type)
    if not name:
        stored = context.topics.image.config(ConfigKind.BROKER, "")
        wanted = [key for key in stored if keys is None or key in keys]
        return context.config.describe(wanted)
    _check_own_id(context, name)
    return context.config.describe(keys)


def _entry(entry: ConfigEntry, message: DescribeConfigsRequest) -> DescribeConfigsEntry:
    return DescribeConfigsEntry(
        name=entry.name,
        value=entry.value,
        read_only=entry.read_only,
        config_source=entry.source,
        is_sensitive=entry.sensitive,
        synonyms=[
            DescribeConfigsSynonym(name=one.name, value=one.value, source=one.source)
            for one in (entry.synonyms if message.include_synonyms else ())
        ],
        config_type=entry.type,
        documentation=entry.doc if message.include_documentation else None,
    )


# Changing.


async def handle_alter_configs(
    context: BrokerContext, _request: Request, message: AlterConfigsRequest
) -> AlterConfigsResponse:
    """Replace all overrides of topics or brokers."""
    results = []
    seen: set[tuple[int, str]] = set()
    for resource in message.resources:
        result = AlterConfigsResult(
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
            error_message=None,
        )
        try:
            _check_once(seen, resource)
            await _replace(context, resource, validate_only=message.validate_only)
        except (KafkaError, ConfigError) as exc:
            result.error_code, result.error_message = _told(exc)
        results.append(result)
    return AlterConfigsResponse(responses=results)


async def _replace(
    context: BrokerContext, resource: AlterConfigsResource, *, validate_only: bool
) -> None:
    values = {entry.name: entry.value for entry in resource.configs}
    if len(values) != len(resource.configs):
        raise KafkaError(ErrorCode.INVALID_REQUEST, "a key is given twice")
    if resource.resource_type == _TOPIC:
        await context.topics.alter_config(
            resource.resource_name,
            lambda _: check_topic_overrides(values),
            validate_only=validate_only,
        )
        return
    alterations = [Alteration(name, AlterOp.SET, value) for name, value in values.items()]
    await _alter_broker(context, resource, alterations, replace=True, validate_only=validate_only)


async def handle_incremental_alter_configs(
    context: BrokerContext, _request: Request, message: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    """Set, delete, append to or subtract from single overrides."""
    results = []
    seen: set[tuple[int, str]] = set()
    for resource in message.resources:
        result = IncrementalAlterConfigsResult(
            resource_type=resource.resource_type,
            resource_name=resource.resource_name,
            error_message=None,
        )
        try:
            _check_once(seen, resource)
            await _increment(context, resource, validate_only=message.validate_only)
        except (KafkaError, ConfigError) as exc:
            result.error_code, result.error_message = _told(exc)
        results.append(result)
    return IncrementalAlterConfigsResponse(responses=results)


async def _increment(
    context: BrokerContext, resource: IncrementalAlterConfigsResource, *, validate_only: bool
) -> None:
    try:
        alterations = [
            Alteration(entry.name, AlterOp(entry.config_operation), entry.value)
            for entry in resource.configs
        ]
    except ValueError:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "an operation is none of 0 to 3") from None
    if resource.resource_type == _TOPIC:
        await context.topics.alter_config(
            resource.resource_name,
            lambda config: alter_topic(config, alterations),
            validate_only=validate_only,
        )
        return
    await _alter_broker(context, resource, alterations, replace=False, validate_only=validate_only)


async def _alter_broker(
    context: BrokerContext,
    resource: AlterConfigsResource | IncrementalAlterConfigsResource,
    alterations: list[Alteration],
    *,
    replace: bool,
    validate_only: bool,
) -> None:
    if resource.resource_type != _BROKER:
        raise _unknown_type(resource.resource_type)
    name = resource.resource_name
    if name and name != str(context.node_id) and _is_cordon_of_absent(context, name, alterations):
        await _cordon_absent(context, int(name), alterations, validate_only=validate_only)
        return
    if name:
        _check_own_id(context, name)
    # Under the lock from the first look on: two changes at once must both count.
    async with context.store.lock:
        before = {} if replace else context.topics.image.config(ConfigKind.BROKER, name)
        new = alter_broker(context.config, before, alterations)
        context.check_broker_config(name, new)
        changes = [*plan_config(context.topics.image, ConfigKind.BROKER, name, new)]
        if name:
            changes += context.cordon_change(new)
        if changes and not validate_only:
            await context.store.commit(changes)
            context.reload_broker_config()


def _is_cordon_of_absent(context: BrokerContext, name: str, alterations: list[Alteration]) -> bool:
    """Whether a broker that does not serve is to be cordoned, or not any more."""
    return (
        name.isdecimal()
        and int(name) in context.fenced_brokers()
        and [one.name for one in alterations] == ["cordoned.log.dirs"]
        and alterations[0].value in ("*", None, "")
    )


async def _cordon_absent(
    context: BrokerContext, broker_id: int, alterations: list[Alteration], *, validate_only: bool
) -> None:
    """Do for a broker that does not serve what it cannot do itself: it may come back."""
    async with context.store.lock:
        image = context.topics.image
        before = image.config(ConfigKind.BROKER, str(broker_id))
        new = {key: text for key, text in before.items() if key != "cordoned.log.dirs"}
        if alterations[0].op is not AlterOp.DELETE and alterations[0].value:
            new["cordoned.log.dirs"] = "*"
        row = image.brokers[broker_id]
        cordoned = row.directories if "cordoned.log.dirs" in new else ()
        changes = [*plan_config(image, ConfigKind.BROKER, str(broker_id), new)]
        if row.cordoned != cordoned:
            changes.append(PutBroker(row._replace(cordoned=cordoned), row.revision))
        if changes and not validate_only:
            await context.store.commit(changes)


def _check_once(
    seen: set[tuple[int, str]], resource: AlterConfigsResource | IncrementalAlterConfigsResource
) -> None:
    key = resource.resource_type, resource.resource_name
    if key in seen:
        raise KafkaError(ErrorCode.INVALID_REQUEST, "the resource is twice in the request")
    seen.add(key)


def _check_own_id(context: BrokerContext, name: str) -> None:
    if name != str(context.node_id):
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"this is broker {context.node_id}, not {name!r}"
        )


def _unknown_type(resource_type: int) -> KafkaError:
    return KafkaError(
        ErrorCode.INVALID_REQUEST, f"resource type {resource_type} is neither topic nor broker"
    )


def _told(exc: KafkaError | ConfigError) -> tuple[ErrorCode, str | None]:
    if isinstance(exc, KafkaError):
        return exc.code, exc.message or None
    return ErrorCode.INVALID_CONFIG, str(exc)
