"""Records on the command line: how `produce` reads and `consume` prints them.

`reading` cuts input into records, `formatting` compiles format strings (kcat's letters) and makes
JSON, `places` turns "-o -10" or "-o @2024-05-01" into offsets, `running` is the loop of `consume`.
"""
