"""Promises of reliability and safety, tested from outside on a broker process."""
