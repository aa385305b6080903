"""A Metadata request that names more topics than there can be ends its connection, at once."""

import pytest

from fastmq.errors import ProtocolError
from fastmq.limits import METADATA_TOPICS_MAX
from fastmq.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastmq.server.handlers.metadata import handle_metadata


def test_more_topics_than_there_can_be_are_refused():
    request = MetadataRequest(topics=[MetadataRequestTopic(name="t")] * (METADATA_TOPICS_MAX + 1))
    with pytest.raises(ProtocolError):
        handle_metadata(None, None, request)
