"""Pumps: they move bytes between a `ClientCore` and sockets, on a thread or in an async task."""
