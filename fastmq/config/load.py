"""Bring settings together from a file, the environment and the command line.

Later wins: the default, `--dev`, the configuration file, the environment, `--override`. What is
altered while the broker runs is in the metadata store and wins over all of these.

An environment variable is `FASTMQ_` and the key in upper case with dots as `_`; a key of our own is
not prefixed twice: `FASTMQ_NUM_PARTITIONS`, `FASTMQ_FLUSH_INTERVAL_MS`. Files, overrides and
variables with unknown keys are refused, with the nearest known one; `FASTMQ_TEST_*` is left to test
suites, `FASTMQ_PROFILE` and `FASTMQ_BOOTSTRAP_SERVERS` to clients. Nothing is read here: the
caller hands in texts.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fastmq.config.broker_keys import DEV_PROFILE, REFUSED_KEYS
from fastmq.config.properties import parse_properties
from fastmq.config.values import BROKER_TABLE, TOPIC_TABLE, BrokerConfig
from fastmq.errors import ConfigError
from fastmq.limits import CONFIG_FILE_BYTES_MAX

__all__ = ["ConfigFile", "environment_name", "load_broker_config", "unknown_key_message"]

_PREFIX = "FASTMQ_"
_IGNORED_PREFIX = "FASTMQ_TEST_"
# What clients read; a broker may be started in the same shell.
_CLIENT_VARIABLES = frozenset(
    {"FASTMQ_BOOTSTRAP_SERVERS", "FASTMQ_METRICS_URL", "FASTMQ_PROFILE", "FASTMQ_WORKER"}
)


class ConfigFile(NamedTuple):
    """A file as the caller read it. `name` decides the format: `*.toml`, else `.properties`."""

    name: str
    text: str


class _Setting(NamedTuple):
    name: str
    text: str
    origin: str


def load_broker_config(
    *,
    file: ConfigFile | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
    dev: bool = False,
) -> BrokerConfig:
    """Return the broker's settings.

    Args:
        file: the configuration file, if there is one.
        environ: the environment variables; those without our prefix are ignored.
        overrides: `key=value` texts from the command line, the last of a key wins.
        dev: begin with the development profile instead of the plain defaults.

    Raises:
        ConfigError: with the file and line, the variable or the override that is wrong.
    """
    settings = [_Setting(name, text, "--dev") for name, text in DEV_PROFILE.items() if dev]
    settings += _from_file(file) if file is not None else ()
    settings += _from_environ(environ or {})
    settings += _from_overrides(overrides)
    for setting in settings:
        if setting.name not in BROKER_TABLE:
            raise ConfigError(f"{setting.origin}: {unknown_key_message(setting.name)}")
    return BrokerConfig(
        {setting.name: setting.text for setting in settings},
        origins={setting.name: setting.origin for setting in settings},
    )


def environment_name(key: str) -> str:
    """Return the environment variable that sets a key."""
    name = key.upper().replace(".", "_")
    return name if name.startswith(_PREFIX) else _PREFIX + name


def unknown_key_message(name: str, known: Iterable[str] = BROKER_TABLE) -> str:
    """Return a sentence on a key that is not in the table: what was meant, or why it is refused."""
    for refused, reason in REFUSED_KEYS:
        if name == refused or (refused.endswith(".") and name.startswith(refused)):
            return f"{name} is not supported: {reason}"
    # Imported here: only a mistake needs it, and every start would pay for it.
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"unknown key {name}; did you mean {near[0]}?"
    if name in TOPIC_TABLE:
        return f"{name} is a topic key: set it on the topic, or its default with {_defaults(name)}"
    return f"unknown key {name}; docs/CONFIG.md lists all keys"


def _defaults(topic_key: str) -> str:
    return " or ".join(name for name, _ in TOPIC_TABLE[topic_key].synonyms) or "nowhere"


def _from_file(file: ConfigFile) -> list[_Setting]:
    if len(file.text) > CONFIG_FILE_BYTES_MAX:
        raise ConfigError(f"{file.name}: larger than {CONFIG_FILE_BYTES_MAX} bytes; wrong file?")
    if file.name.endswith(".toml"):
        return _from_toml(file)
    entries = parse_properties(file.text, name=file.name)
    return [_Setting(key, text, f"{file.name}:{number}") for key, text, number in entries]


def _from_toml(file: ConfigFile) -> list[_Setting]:
    import tomllib

    try:
        tree = tomllib.loads(file.text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{file.name}: {error} (a key that is also the beginning of another, as fastmq.flush, "
            'is written in quotes: "fastmq.flush" = "ack")'
        ) from None
    settings: list[_Setting] = []
    _flatten(tree, "", file, settings)
    return settings


def _flatten(
    tree: Mapping[str, object], prefix: str, file: ConfigFile, out: list[_Setting]
) -> None:
    for part, value in tree.items():
        name = prefix + part
        if isinstance(value, dict):
            _flatten(value, name + ".", file, out)
            continue
        origin = f"{file.name}:{_line_of(file.text, name)}"
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, bool | int | float | str) for item in items):
            raise ConfigError(f"{origin}: {name}: write text, a number, true, false, or a list")
        out.append(_Setting(name, ",".join(_scalar_text(item) for item in items), origin))


def _scalar_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _line_of(text: str, name: str) -> int:
    """Return the line that sets a key: the first whose left side ends as the key does."""
    for number, line in enumerate(text.splitlines(), 1):
        left = line.partition("=")[0].strip().replace('"', "").replace("'", "").replace(" ", "")
        if "=" in line and left and (name == left or name.endswith("." + left)):
            return number
    return 1


def _from_environ(environ: Mapping[str, str]) -> list[_Setting]:
    known = {environment_name(key): key for key in BROKER_TABLE}
    settings = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(_PREFIX) or variable.startswith(_IGNORED_PREFIX):
            continue
        if variable in _CLIENT_VARIABLES:
            continue
        if variable not in known:
            guess = variable.removeprefix(_PREFIX).lower().replace("_", ".")
            raise ConfigError(f"environment variable {variable}: {unknown_key_message(guess)}")
        settings.append(_Setting(known[variable], text, f"environment variable {variable}"))
    return settings


def _from_overrides(overrides: Sequence[str]) -> list[_Setting]:
    settings = []
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--override {override}: write key=value")
        settings.append(_Setting(name.strip(), text, f"--override {override}"))
    return settings
