"""The command `fastmq`.

`main` is the console script. Each subcommand lives in a module of its own that is imported when
it is called: `serve` must be answering clients 300 ms after the process began, and a broker has no
use for what prints tables. Nothing here holds logic that the server or the log package could hold.
"""

from fastmq.cli.main import main

__all__ = ["main"]
