"""What several commands share: which cluster, how results are printed, values, completion.

Nothing here is imported by `fastmq serve`. `options` puts the same options on every command and
makes a client of them; `output` prints tables for people and JSON for programs; `values` reads
sizes, times and key=value pairs; `completing` completes names of topics and groups in the shell.
"""
