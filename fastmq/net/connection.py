"""One connection to a broker, seen from the client, without any I/O.

States: new -> `start` -> negotiating -> ready. The first request is ApiVersions in the newest
version we know; a broker that does not know it answers in version 0 with error 35 and the versions
that it has (KIP-511), and is asked again. Afterwards `version_for` chooses the highest version that
both sides know. Requests are answered in their order; anything else is the peer's fault.

Source: protocol guide; KIP-35, KIP-511.
"""

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from fastmq._version import __version__
from fastmq.errors import ErrorCode, KafkaError, ProtocolError
from fastmq.net.frames import Frame, FrameReader
from fastmq.protocol import (
    APIS,
    ApiKey,
    Message,
    decode,
    decode_response,
    encode_request_parts,
)
from fastmq.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

__all__ = ["Answer", "Connection"]

#: What a connection takes from a peer unless told otherwise: Kafka's `socket.request.max.bytes`.
FRAME_BYTES_MAX: Final = 100 << 20

_CORRELATION_ID_MAX: Final = (1 << 31) - 1


class Answer(NamedTuple):
    """A decoded response. `records` in it borrow from its frame, which they keep alive."""

    correlation_id: int
    message: Message


class _Expected(NamedTuple):
    correlation_id: int
    api_key: int
    version: int


class Connection:
    """The client's end of one connection.

    Args:
        client_id: what the broker shows in its logs and quotas.
        frame_bytes_max: a longer answer closes the connection.
    """

    def __init__(self, *, client_id: str | None, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._client_id = client_id
        self._reader = FrameReader(frame_bytes_max)
        self._expected: deque[_Expected] = deque()
        self._output: list[bytes | memoryview] = []
        self._next_correlation_id = 0
        self._asked_again = False
        self.versions: Mapping[int, tuple[int, int]] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the versions are negotiated, so that requests may be sent."""
        return self.versions is not None

    def start(self) -> None:
        """Queue the opening request."""
        self._ask_versions(APIS[ApiKey.API_VERSIONS].max_version)

    def version_for(self, api_key: int, low: int = 0, high: int = 32767) -> int:
        """Return the highest version of an API within `low`..`high` that both sides know.

        Raises:
            KafkaError: UNSUPPORTED_VERSION when there is none.
        """
        assert self.versions is not None
        api = APIS[api_key]
        theirs = self.versions.get(api_key)
        if theirs is None:
            raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, f"the broker does not offer {api.name}")
        version = min(theirs[1], api.max_version, high)
        if version < max(theirs[0], api.min_version, low):
            raise KafkaError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"the broker has {api.name} {theirs[0]} to {theirs[1]}, needed is "
                f"{max(api.min_version, low)} to {min(api.max_version, high)}",
            )
        return version

    def send(self, message: Message, version: int, *, answered: bool = True) -> int:
        """Queue a request.

        Args:
            message: the request; large `records` in it are sent from where they lie and must stay
                as they are until an answer came or the connection is closed.
            version: of its API.
            answered: False for a Produce with acks=0, which gets no answer.

        Returns:
            The correlation id of the answer.
        """
        correlation_id = self._next_correlation_id
        self._next_correlation_id = (correlation_id + 1) & _CORRELATION_ID_MAX
        self._output += encode_request_parts(version, correlation_id, self._client_id, message)
        if answered:
            self._expected.append(_Expected(correlation_id, message.API_KEY, version))
        return correlation_id

    def take_output(self) -> list[bytes | memoryview]:
        """Return what is to be sent next, in order, and forget it."""
        output = self._output
        self._output = []
        return output

    def receive_buffer(self) -> memoryview:
        """Where the next bytes of the peer belong."""
        return self._reader.buffer()

    @property
    def missing_bytes(self) -> int:
        """How many bytes are known to be still to come before anything can be done; 0: unknown."""
        return self._reader.missing_bytes

    def received(self, count: int) -> list[Answer]:
        """Take note of `count` bytes that were put into `receive_buffer`.

        Returns:
            The answers that are now complete, in order; the opening is dealt with inside.

        Raises:
            ProtocolError: the peer breaks the protocol; close the connection.
        """
        answers = []
        for frame in self._reader.received(count):
            answer = self._decode(frame)
            if answer is not None:
                answers.append(answer)
        return answers

    def receive_data(self, data: bytes) -> list[Answer]:
        """The same for bytes that the caller holds: they are copied."""
        answers = []
        while data:
            buffer = self.receive_buffer()
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            answers += self.received(count)
            data = data[count:]
        return answers

    # ---------------------------------------------------------------------------------- private

    def _decode(self, frame: Frame) -> Answer | None:
        if not self._expected:
            raise ProtocolError("the peer sends an answer to no request")
        expected = self._expected.popleft()
        if len(frame) < 4 or int.from_bytes(frame[:4], "big") != expected.correlation_id:
            raise ProtocolError("the peer's answers are not in the order of the requests")
        if self.versions is None:
            self._negotiate(frame, expected.version)
            return None
        correlation_id, message = decode_response(expected.api_key, expected.version, frame)
        return Answer(correlation_id, message)

    def _ask_versions(self, version: int) -> None:
        request = ApiVersionsRequest(
            client_software_name="fastmq-python", client_software_version=__version__
        )
        self.send(request, version)

    def _negotiate(self, frame: Frame, version: int) -> None:
        unknown = ErrorCode.UNSUPPORTED_VERSION
        if version > 0 and frame[4:6] == int(unknown).to_bytes(2, "big"):
            # A broker that does not know our version answers as if we had asked in version 0.
            response, _ = decode(ApiVersionsResponse, 0, frame, 4)
        else:
            _, decoded = decode_response(ApiKey.API_VERSIONS, version, frame)
            assert isinstance(decoded, ApiVersionsResponse)
            response = decoded
        offered = {row.api_key: (row.min_version, row.max_version) for row in response.api_keys}
        if response.error_code == unknown and version > 0 and not self._asked_again:
            self._asked_again = True
            self._ask_versions(min(offered.get(ApiKey.API_VERSIONS, (0, 0))[1], version - 1))
            return
        if response.error_code != ErrorCode.NONE:
            raise ProtocolError(
                f"the broker answers ApiVersions with error {response.error_code}; "
                "is it older than Kafka 2.1, or does the listener ask for authentication?"
            )
        self.versions = offered
