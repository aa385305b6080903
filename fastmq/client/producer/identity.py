"""The producer's id, which the cluster gives it (InitProducerId without a transactional id)."""

from collections.abc import Callable
from typing import Any

from fastmq.client.calls import AnyNode, Call
from fastmq.client.core import ClientCore
from fastmq.errors import ErrorCode, KafkaError, error_code
from fastmq.protocol.messages.init_producer_id import InitProducerIdRequest

__all__ = ["Identity"]

# Without a transaction it means nothing, but a broker may look at it: Java's default.
_TRANSACTION_TIMEOUT_MS = 60_000


class Identity:
    """Asks for an id when one is needed, and again when it fails in a way that may pass.

    Attributes:
        producer_id, epoch: -1 when not known.
        error: why there is none and will be none.
    """

    def __init__(self, core: ClientCore, on_known: Callable[[], None]) -> None:
        self.producer_id = -1
        self.epoch = -1
        self.error: KafkaError | None = None
        self.on_refused: Callable[[KafkaError], None] | None = None
        self._core = core
        self._on_known = on_known
        self._call: Call | None = None

    def is_known(self) -> bool:
        """Whether there is an id; asks for one when there is none."""
        if self.producer_id < 0 and self._call is None and self.error is None:
            self._call = self._core.send(
                AnyNode(),
                InitProducerIdRequest(
                    transactional_id=None, transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS
                ),
                self._done,
                timeout_ms=None,
                error_of=lambda response: response.error_code,
            )
        return self.producer_id >= 0

    def exhausted(self, producer_id: int) -> None:
        """Ask for another id: the epochs of this one are used up."""
        if producer_id == self.producer_id:
            self.producer_id = self.epoch = -1

    # Any: a response or an exception, as `ClientCore.send` says.
    def _done(self, result: Any) -> None:
        self._call = None
        if isinstance(result, KafkaError):
            self.error = result
        elif isinstance(result, Exception):
            self.error = KafkaError(ErrorCode.INVALID_REQUEST, str(result))
        elif result.error_code != ErrorCode.NONE:
            self.error = KafkaError(
                error_code(result.error_code),
                "no producer id; enable_idempotence=False would do without",
            )
        else:
            self.producer_id, self.epoch = result.producer_id, result.producer_epoch
        if self.error is not None and self.on_refused is not None:
            self.on_refused(self.error)
        self._on_known()
