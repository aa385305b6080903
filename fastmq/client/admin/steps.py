"""Operations as generators, and what runs them on a core. Pure.

A generator of `Steps` yields a list of `Ask` and is sent the list of responses, in the same order;
the first failed one is thrown into it instead. Or it yields a `Pause`, and is resumed after the
back-off, or with the pause's error when the operation's time is over. What it raises is the
operation's error, what it returns the result.
"""

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from fastmq.client.calls import ErrorOf, Target
from fastmq.client.calls import Request as VersionedRequest
from fastmq.client.core import ClientCore
from fastmq.errors import KafkaError
from fastmq.protocol import Message

__all__ = ["Ask", "Pause", "Steps", "run_steps"]

T = TypeVar("T")


class Ask(NamedTuple):
    """A request that the operation needs answered.

    Attributes:
        target: who is asked.
        request: the message, or one that depends on the version.
        error_of: finds the errors after which the whole request is sent again, to whoever is
            responsible by then.
    """

    target: Target
    request: Message | VersionedRequest
    error_of: ErrorOf | None = None


class Pause(NamedTuple):
    """Wait for the back-off after `attempts` failures; `error` is raised when time is over."""

    attempts: int
    error: KafkaError


# Any: each operation knows the classes of the responses that it asked for.
Steps: TypeAlias = Generator["list[Ask] | Pause", list[Any], T]


def run_steps(
    core: ClientCore,
    steps: Steps[T],
    done: Callable[[T | Exception], None],
    *,
    timeout_ms: int | None = None,
) -> None:
    """Run an operation.

    Args:
        core: of the client; its thread or task calls this.
        steps: the operation, not begun.
        done: called once, with the result or an exception.
        timeout_ms: for the whole operation; None: `default_api_timeout_ms`.
    """
    limit_ms = core.options.default_api_timeout_ms if timeout_ms is None else timeout_ms
    _Runner(core, steps, done, core.now_ms + limit_ms).advance(lambda: next(steps))


class _Runner:
    def __init__(
        self,
        core: ClientCore,
        steps: Steps[T],
        done: Callable[[T | Exception], None],
        deadline_ms: int,
    ) -> None:
        self._core = core
        self._steps = steps
        self._done = done
        self._deadline_ms = deadline_ms
        self._results: list[Any] = []
        self._missing = 0

    def advance(self, resume: Callable[[], list[Ask] | Pause]) -> None:
        """Resume the generator and begin what it asks for."""
        try:
            wanted = resume()
        except StopIteration as end:
            self._done(end.value)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to the caller
            self._done(error)
            return
        if isinstance(wanted, Pause):
            self._pause(wanted)
        elif wanted:
            self._ask(wanted)
        else:
            self.advance(lambda: self._steps.send([]))

    def _pause(self, pause: Pause) -> None:
        when_ms = self._core.now_ms + self._core.backoff_ms(pause.attempts)
        if when_ms >= self._deadline_ms or self._core.is_closed:
            self.advance(lambda: self._steps.throw(pause.error))
        else:
            self._core.call_at(when_ms, lambda: self.advance(lambda: self._steps.send([])))

    def _ask(self, asks: list[Ask]) -> None:
        self._results = [None] * len(asks)
        self._missing = len(asks)
        left_ms = max(0, self._deadline_ms - self._core.now_ms)
        for index, ask in enumerate(asks):
            self._core.send(
                ask.target,
                ask.request,
                partial(self._answered, index),
                timeout_ms=left_ms,
                error_of=ask.error_of,
            )

    # Any: a response or an exception, as `ClientCore.send` says.
    def _answered(self, index: int, result: Any) -> None:
        self._results[index] = result
        self._missing -= 1
        if self._missing:
            return
        results = self._results
        failed = next((r for r in results if isinstance(r, Exception)), None)
        if failed is not None:
            self.advance(lambda: self._steps.throw(failed))
        else:
            self.advance(lambda: self._steps.send(results))
