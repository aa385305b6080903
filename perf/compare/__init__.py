"""fastmq side by side with the brokers that people would pick instead; `__main__.py` runs it."""
