"""One module per API, each with its request and response classes and their nested structs.

Nested structs belong to their module: two messages may have structs of one name and different
fields. Modules are imported by `fastmq.protocol.api` when their API is first used.
"""
