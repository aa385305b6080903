"""`python -m fastmq`: the same as the command `fastmq`."""

from fastmq.cli import main

main(prog_name="fastmq")
