"""`fastmq profile`: clusters by name."""

import sys

import click

from fastmq.cli.support.completing import complete_profile
from fastmq.cli.support.options import json_option
from fastmq.cli.support.output import print_facts, print_json, print_table
from fastmq.cli.support.profiles import Value, load_profiles, profiles_path, save_profiles
from fastmq.cli.support.values import KEY_VALUE
from fastmq.errors import ConfigError

__all__ = ["profile"]


@click.group(
    epilog="""\b
Examples:
  fastmq profile set production bootstrap_servers=mq1.example.org:9092,mq2.example.org:9092
  fastmq profile use production
  fastmq topic list --profile production
  FASTMQ_PROFILE=production fastmq topic list
"""
)
def profile() -> None:
    """Remember clusters by name, with options of clients."""


@profile.command("list")
@json_option
def list_profiles(*, as_json: bool) -> None:
    """List the profiles; the one marked is used when none is named."""
    profiles = load_profiles()
    if as_json:
        print_json({"current": profiles.current, "profiles": profiles.by_name})
        return
    print_table(
        ("", "NAME", "BOOTSTRAP SERVERS"),
        [
            ("*" if name == profiles.current else "", name, options.get("bootstrap_servers"))
            for name, options in sorted(profiles.by_name.items())
        ],
        none="no profiles; `fastmq profile set NAME bootstrap_servers=HOST:PORT` makes one",
    )


@profile.command()
@click.argument("name", required=False, shell_complete=complete_profile)
@json_option
def show(*, name: str | None, as_json: bool) -> None:
    """Show a profile, the current one when none is named."""
    profiles = load_profiles()
    wanted = name or profiles.current
    if wanted is None:
        raise click.UsageError("no profile is current; name one, or `fastmq profile use NAME`")
    options = profiles.get(wanted)
    if as_json:
        print_json({"name": wanted, **options})
    else:
        print_facts([("name", wanted), *options.items()])


@profile.command("set")
@click.argument("name", shell_complete=complete_profile)
@click.argument("values", nargs=-1, required=True, type=KEY_VALUE, metavar="KEY=VALUE...")
@json_option
def set_(*, name: str, values: tuple[tuple[str, str], ...], as_json: bool) -> None:
    """Make a profile or change options of it; KEY= removes one."""
    from fastmq.client.options import ClientOptions, read_options

    profiles = load_profiles()
    options: dict[str, Value] = dict(profiles.by_name.get(name, {}))
    for key, text in values:
        plain = key.replace(".", "_")
        if not text:
            options.pop(plain, None)
            continue
        if plain == "bootstrap_servers":
            try:
                read_options(ClientOptions, text, {})
            except ConfigError as error:
                raise click.UsageError(str(error)) from None
        options[plain] = text
    if "bootstrap_servers" not in options:
        raise click.UsageError("a profile needs bootstrap_servers=HOST:PORT")
    profiles.by_name[name] = options
    if profiles.current is None:
        profiles.current = name
    path = save_profiles(profiles)
    click.echo(f"profile {name} written to {path}", err=True)
    if as_json:
        print_json({"profile": name, "options": options, "file": str(path)})


@profile.command()
@click.argument("name", shell_complete=complete_profile)
@json_option
def use(*, name: str, as_json: bool) -> None:
    """Use this profile when none is named."""
    profiles = load_profiles()
    profiles.get(name)
    profiles.current = name
    save_profiles(profiles)
    click.echo(f"profile {name} is used from now on", err=True)
    if as_json:
        print_json({"current": name})


@profile.command()
@click.argument("name", shell_complete=complete_profile)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def delete(*, name: str, yes: bool, as_json: bool) -> None:
    """Forget a profile."""
    profiles = load_profiles()
    profiles.get(name)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Forget profile {name}?", abort=True, err=True)
    del profiles.by_name[name]
    if profiles.current == name:
        profiles.current = None
    save_profiles(profiles)
    click.echo(f"profile {name} forgotten", err=True)
    if as_json:
        print_json({"deleted": name, "current": profiles.current})


@profile.command()
@json_option
def path(*, as_json: bool) -> None:
    """Print where the file is."""
    if as_json:
        print_json({"file": str(profiles_path())})
    else:
        click.echo(profiles_path())
