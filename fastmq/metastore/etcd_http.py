"""Requests to the members of an etcd cluster: fail-over, login, and what an error means.

The v3 API is spoken through etcd's own JSON gateway, over HTTP. A request goes to the member that
answered last; one that cannot be reached, or says that it cannot serve, is left for the next.

What may be repeated is the caller's to say. A request that is *idempotent* is tried at every member
until the time is over. Any other is repeated only while it certainly did not happen: no connection,
or a login that had run out. Otherwise it ends in `MetastoreUnavailableError`: it may have happened.
"""

import itertools
import json
import logging
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx
import trio

from fastmq.metastore.interface import MetastoreError, MetastoreUnavailableError

__all__ = ["EtcdHttp", "EtcdOptions", "EtcdRefusedError"]

logger = logging.getLogger(__name__)

# gRPC status codes that the gateway puts into error bodies.
_DEADLINE: Final = 4
_NOT_FOUND: Final = 5
_EXHAUSTED: Final = 8
_UNAVAILABLE: Final = 14
_UNAUTHENTICATED: Final = 16
# Between two rounds through all members.
_ROUND_PAUSE_S: Final = 0.05
# Streams stay open for ever, one per watch; requests are few at a time.
_CONNECTIONS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """How to reach an etcd cluster.

    Attributes:
        endpoints: `http://host:port` or `https://host:port` of its members.
        prefix: what all keys of this cluster begin with there.
        user: login, empty for none.
        ca_file: who signed the members' certificates, empty: the system's authorities.
        cert_file: our own certificate, with its `key_file`; empty for none.
        timeout_ms: for one request at one member.
    """

    endpoints: tuple[str, ...]
    prefix: str = "fastmq/"
    user: str = ""
    password: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    timeout_ms: int = 2_000

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise MetastoreError("no etcd endpoints are given")
        for endpoint in self.endpoints:
            if not endpoint.startswith(("http://", "https://")):
                raise MetastoreError(
                    f"an etcd endpoint begins with http:// or https://: {endpoint}"
                )


class EtcdRefusedError(MetastoreError):
    """etcd understood the request and said no: it did not happen.

    Attributes:
        code: gRPC status code.
    """

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(f"etcd: {message}")

    @property
    def is_not_found(self) -> bool:
        """Whether what was named (a lease) does not exist."""
        return self.code == _NOT_FOUND


class EtcdHttp:
    """Connections to the members of one etcd cluster; may be used by many tasks."""

    def __init__(self, options: EtcdOptions) -> None:
        self._options = options
        self._client: httpx.AsyncClient | None = None
        self._at = 0
        self._token = ""
        self._login_lock = trio.Lock()

    def open(self) -> None:
        """Prepare; connects to nobody yet.

        Raises:
            MetastoreError: a certificate or key cannot be read.
        """
        options = self._options
        verify: ssl.SSLContext | bool = True
        if any(endpoint.startswith("https://") for endpoint in options.endpoints):
            try:
                verify = ssl.create_default_context(cafile=options.ca_file or None)
                if options.cert_file:
                    verify.load_cert_chain(options.cert_file, options.key_file or None)
            except (OSError, ssl.SSLError) as exc:
                raise MetastoreError(f"cannot use the certificates for etcd: {exc}") from exc
        self._client = httpx.AsyncClient(
            verify=verify,
            trust_env=False,
            timeout=options.timeout_ms / 1000,
            limits=httpx.Limits(max_connections=_CONNECTIONS_MAX, max_keepalive_connections=8),
        )

    async def close(self) -> None:
        """Close all connections; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    @property
    def is_open(self) -> bool:
        """Whether requests can be made."""
        return self._client is not None

    @property
    def timeout_s(self) -> float:
        """For one request at one member."""
        return self._options.timeout_ms / 1000

    async def call(
        self,
        path: str,
        body: Mapping[str, object],
        *,
        idempotent: bool,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Make a request and return the answer.

        Args:
            path: of the gateway.
            body: of the request.
            idempotent: it may be done twice.
            timeout_s: for each member; None = the option's.

        Raises:
            EtcdRefusedError: it was refused.
            MetastoreUnavailableError: nobody answered, or it may or may not have happened.
        """
        members = len(self._options.endpoints)
        each_s = self.timeout_s if timeout_s is None else timeout_s
        deadline = trio.current_time() + each_s * (members + 1)
        for attempt in itertools.count(1):
            at = self._at
            try:
                return await self._ask(self._options.endpoints[at], path, body, each_s)
            except _NotDoneError as exc:
                problem: Exception = exc
            except _InDoubtError as exc:
                problem = exc
                if not idempotent:
                    deadline = -1
            self.leave(at)
            if deadline < 0 or (attempt >= members and trio.current_time() >= deadline):
                raise MetastoreUnavailableError(f"etcd does not answer: {problem}") from problem
            if attempt % members == 0:
                await trio.sleep(_ROUND_PAUSE_S)
        raise AssertionError("unreachable")

    async def _ask(
        self, endpoint: str, path: str, body: Mapping[str, object], timeout_s: float
    ) -> dict[str, Any]:
        """Ask one member, logging in where that is needed."""
        used = self._token
        try:
            if not used and self._options.user:
                used = await self._login(endpoint, used)
            return await self._post(endpoint, path, body, used, timeout_s)
        except EtcdRefusedError as exc:
            # It was refused before it was looked at: a token lasts for minutes only.
            if exc.code != _UNAUTHENTICATED or not self._options.user:
                raise
        token = await self._login(endpoint, used)
        return await self._post(endpoint, path, body, token, timeout_s)

    async def _login(self, endpoint: str, used: str) -> str:
        """Return a token other than the one that was used."""
        async with self._login_lock:
            if self._token == used:
                self._token = ""
                body = {"name": self._options.user, "password": self._options.password}
                path = "/v3/auth/authenticate"
                answer = await self._post(endpoint, path, body, "", self.timeout_s)
                self._token = str(answer["token"])
            return self._token

    async def _post(
        self, endpoint: str, path: str, body: Mapping[str, object], token: str, timeout_s: float
    ) -> dict[str, Any]:
        if self._client is None:
            raise MetastoreUnavailableError("the metadata store is closed")
        headers = {"Authorization": token} if token else {}
        try:
            # httpx times each step; a member that trickles must not hold the caller either.
            with trio.fail_after(timeout_s):
                response = await self._client.post(endpoint + path, json=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:
            raise _NotDoneError(f"{endpoint}: {_told(exc)}") from exc
        except (httpx.HTTPError, trio.TooSlowError) as exc:
            raise _InDoubtError(f"{endpoint}: {_told(exc)}") from exc
        if response.is_success:
            answer = response.json()
            assert isinstance(answer, dict)
            return answer
        raise _failure(endpoint, response.status_code, response.content)

    # Streams.

    async def stream(self, path: str, body: Mapping[str, object]) -> tuple[httpx.Response, int]:
        """Begin a request whose answer does not end; the caller closes it.

        Returns:
            The response, its headers read, and the number of the member, for `leave`.

        Raises:
            EtcdRefusedError: it was refused.
            MetastoreUnavailableError: this member does not answer; `leave` has been called.
        """
        at = self._at
        endpoint = self._options.endpoints[at]
        try:
            if self._options.user and not self._token:
                await self._login(endpoint, "")
            return await self._begin(endpoint, path, body), at
        except (_NotDoneError, _InDoubtError) as exc:
            self.leave(at)
            raise MetastoreUnavailableError(f"etcd does not answer: {exc}") from exc
        except EtcdRefusedError as exc:
            if exc.code != _UNAUTHENTICATED or not self._options.user:
                raise
            self.forget_login()
            raise MetastoreUnavailableError("the login at etcd has run out") from exc

    async def _begin(self, endpoint: str, path: str, body: Mapping[str, object]) -> httpx.Response:
        client = self._client
        if client is None:
            raise MetastoreUnavailableError("the metadata store is closed")
        # A member without a leader ends the stream instead of keeping silent for ever.
        headers = {"Grpc-Metadata-hasleader": "true"}
        if self._token:
            headers["Authorization"] = self._token
        timeout = httpx.Timeout(self.timeout_s, read=None)
        request = client.build_request(
            "POST", endpoint + path, json=body, headers=headers, timeout=timeout
        )
        try:
            with trio.fail_after(self.timeout_s):
                response = await client.send(request, stream=True)
                if not response.is_success:
                    content = await response.aread()
                    raise _failure(endpoint, response.status_code, content)
        except (httpx.HTTPError, trio.TooSlowError) as exc:
            raise _InDoubtError(f"{endpoint}: {_told(exc)}") from exc
        return response

    def forget_login(self) -> None:
        """Log in again for the next stream: the token has run out."""
        self._token = ""

    def leave(self, at: int) -> None:
        """Turn to the next member, unless somebody else has turned from this one already."""
        if self._at == at:
            self._at = (at + 1) % len(self._options.endpoints)


class _NotDoneError(Exception):
    """The request did not reach anybody who could do it."""


class _InDoubtError(Exception):
    """The request may or may not have been done."""


def _failure(endpoint: str, status: int, content: bytes) -> Exception:
    """Return what an error answer of the gateway means."""
    code, message = -1, f"HTTP status {status}"
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        found = json.loads(content)
        code = int(found.get("code", -1))
        message = str(found.get("message") or found.get("error") or message)
    if code in (_DEADLINE, _UNAVAILABLE) or (code < 0 and status >= 500):
        return _InDoubtError(f"{endpoint}: {message}")
    if code == _EXHAUSTED:
        message += " (if its space is used up: compact, defragment, disarm the alarm)"
    if "invalid auth token" in message:
        code = _UNAUTHENTICATED
    return EtcdRefusedError(message, code)


def _told(exc: BaseException) -> str:
    """Return what went wrong: httpx often says it only in the exceptions below its own."""
    below: BaseException | None = exc
    while below is not None:
        if str(below):
            return str(below)
        below = below.__cause__ or below.__context__
    return type(exc).__name__
