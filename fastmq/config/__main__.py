"""`python -m fastmq.config`: print docs/CONFIG.md."""

import sys

from fastmq.config.doc import config_markdown

sys.stdout.write(config_markdown())
