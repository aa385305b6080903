"""Clients that others wrote, against a real broker process."""
