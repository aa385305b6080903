"""Profiles: clusters by name, in a TOML file of the user.

    current = "local"

    [profiles.local]
    bootstrap_servers = "127.0.0.1:9092"

    [profiles.production]
    bootstrap_servers = "mq1.example.org:9092,mq2.example.org:9092"
    client_id = "ops"

Besides `bootstrap_servers` a profile may hold any option of the clients.
"""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import click

__all__ = ["Profiles", "load_profiles", "profiles_path", "save_profiles"]

Value = str | int | float | bool


@dataclass
class Profiles:
    """The file's content."""

    current: str | None = None
    by_name: dict[str, dict[str, Value]] = field(default_factory=dict)

    def get(self, name: str) -> dict[str, Value]:
        """Return a profile.

        Raises:
            click.UsageError: there is none of that name.
        """
        if name not in self.by_name:
            there = ", ".join(sorted(self.by_name)) or "none yet"
            raise click.UsageError(
                f"there is no profile {name} (there are: {there}); make it with"
                f" `fastmq profile set {name} bootstrap_servers=HOST:PORT`"
            )
        return self.by_name[name]


def profiles_path() -> Path:
    """Return where the file is."""
    return Path(click.get_app_dir("fastmq")) / "profiles.toml"


def load_profiles() -> Profiles:
    """Read the file; a missing one is empty.

    Raises:
        click.ClickException: it cannot be read or understood.
    """
    path = profiles_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Profiles()  # most people have none: nothing is imported to read it
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"cannot read {path}: {error}") from None
    import tomllib

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise click.ClickException(f"cannot read {path}: {error}") from None
    current = table.get("current")
    profiles = table.get("profiles", {})
    good = isinstance(profiles, dict) and all(isinstance(one, dict) for one in profiles.values())
    if not good or not isinstance(current, str | None):
        raise click.ClickException(f'{path}: wants current = "NAME" and tables [profiles.NAME]')
    return Profiles(current, profiles)


def save_profiles(profiles: Profiles) -> Path:
    """Write the file, readable by the user only, whole or not at all; return its path."""
    import tempfile

    path = profiles_path()
    lines = [] if profiles.current is None else [f"current = {_toml(profiles.current)}", ""]
    for name, options in sorted(profiles.by_name.items()):
        lines.append(f"[profiles.{_toml(name)}]")
        lines += [f"{_toml(key)} = {_toml(value)}" for key, value in options.items()]
        lines.append("")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".profiles")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write("\n".join(lines))
            Path(temporary).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error}") from None
    return path


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    # JSON's strings are TOML's basic strings, but for one character that JSON leaves as it is.
    import json

    return json.dumps(value).replace("\x7f", "\\u007f")
