"""The text of docs/CLI.md, made from the commands: `python -m fastmq.cli.reference`.

Written here and not by click's formatter, so that it is the same with every version of click.
"""

from collections.abc import Iterator

import click

from fastmq.cli.main import main

__all__ = ["cli_markdown"]

_HEAD = """\
# Command line

<!-- Made by `make docs` from the commands; `make docs-check` keeps it fresh. Do not edit. -->

Every command has `--help` with examples. Results go to standard output, all else to standard error;
`--json` prints JSON instead of tables. Progress is drawn on a terminal only.
"""

# Of every command about a cluster: told once.
_SHARED = ("bootstrap_servers", "profile", "properties", "timeout")


def cli_markdown() -> str:
    """Return the whole document."""
    context = click.Context(main, info_name="fastmq")
    parts = [_HEAD, _epilog(main)]
    parts += ["\n## Options of every command about a cluster\n\n", *_shared_options()]
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        parts += _command(command, f"fastmq {name}", 2)
    return "".join(parts)


def _shared_options() -> Iterator[str]:
    context = click.Context(main, info_name="fastmq")
    topic = main.get_command(context, "topic")
    assert isinstance(topic, click.Group)
    by_name = {param.name: param for param in topic.commands["list"].params}
    for name in _SHARED:
        option = by_name[name]
        assert isinstance(option, click.Option)
        yield _option(option)


def _command(command: click.Command, path: str, level: int) -> Iterator[str]:
    yield f"\n{'#' * min(level, 4)} `{path}`\n\n{_text(command.help or '')}\n"
    if isinstance(command, click.Group):
        yield _epilog(command)
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _command(found, f"{path} {name}", level + 1)
        return
    arguments = [_argument(p) for p in command.params if isinstance(p, click.Argument)]
    yield f"\n```text\n{' '.join([path, '[OPTIONS]', *arguments])}\n```\n\n"
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    yield from (_option(option) for option in options if option.name not in _SHARED)
    if any(option.name == "bootstrap_servers" for option in options):
        yield "* the options of every command about a cluster\n"
    yield _epilog(command)


def _argument(argument: click.Argument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    if "..." in name or "[" in name:
        return name
    name = f"{name}..." if argument.nargs == -1 else name
    return name if argument.required else f"[{name}]"


def _option(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    value = "" if option.is_flag else f" {_value(option)}"
    facts = [option.help.rstrip(".") if option.help else ""]
    if option.show_default and option.default not in (None, (), False):
        default = option.default
        text = ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)
        facts.append(f"default `{text}`")
    if option.envvar:
        facts.append(f"environment `{option.envvar}`")
    if option.required:
        facts.append("required")
    said = "; ".join(fact for fact in facts if fact)
    return f"* {names}{value}{': ' + said if said else ''}\n"


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    kinds = {"integer range": "N", "integer": "N", "float range": "N", "float": "N"}
    return kinds.get(option.type.name, option.type.name.upper())


def _text(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _epilog(command: click.Command) -> str:
    """Examples as a block of code, what is said besides as text."""
    made = []
    for block in (command.epilog or "").split("\b\n"):
        lines = block.strip("\n").splitlines()
        if not lines:
            continue
        if lines[0].startswith("  ") or (len(lines) > 1 and lines[1].startswith("  ")):
            title = "" if lines[0].startswith("  ") else f"\n{lines[0]}\n"
            code = lines if not title else lines[1:]
            indented = [line[2:] for line in code if line.startswith("  ")]
            rest = [line for line in code if line and not line.startswith("  ")]
            made.append(title + "\n```text\n" + "\n".join(indented) + "\n```\n")
            lines = rest
        if lines:
            made.append("\n" + "\n".join(lines) + "\n")
    return "".join(made)


if __name__ == "__main__":
    print(cli_markdown(), end="")
