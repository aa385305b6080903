"""`fastmq completion`: what the shell needs to complete commands, options and names."""

import click

__all__ = ["completion"]

_VARIABLE = "_FASTMQ_COMPLETE"


@click.command(
    epilog="""\b
For this shell only:
  eval "$(fastmq completion bash)"
  eval "$(fastmq completion zsh)"
  fastmq completion fish | source

\b
For every new one:
  fastmq completion bash > ~/.local/share/bash-completion/completions/fastmq
  fastmq completion zsh > "${fpath[1]}/_fastmq"
  fastmq completion fish > ~/.config/fish/completions/fastmq.fish

\b
Names of topics and groups are asked of the cluster; a broker that does not answer within a second
completes nothing.
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(*, shell: str) -> None:
    """Print the completion script for a shell."""
    from click.shell_completion import get_completion_class

    from fastmq.cli.main import main

    kind = get_completion_class(shell)
    assert kind is not None
    # `source` of bash also checks the version of whatever bash is on the path, which need not be
    # the one that will read this.
    maker = kind(main, {}, "fastmq", _VARIABLE)
    click.echo(maker.source_template % maker.source_vars())
