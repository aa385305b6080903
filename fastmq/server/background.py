"""What nobody waits for: retention, rolling, producer expiry, checkpoints, removal of files.

Every job walks over the partitions in worker threads, a slice at a time, so that a stop never
waits long and no job holds the event loop. A partition that was not opened since the start is left
alone unless its files say that retention has work there; opening thousands of idle logs for nothing
would cost the descriptors and the memory that lazy opening saves.

`close_partitions` is the end of a clean stop: every log closed, the checkpoints written, then the
clean marker of each directory where all of that worked.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import trio

from fastmq._native.core import Partition, PartitionError
from fastmq.limits import MAINTENANCE_SLICE
from fastmq.log import HIGH_WATERMARK, LOG_START, RECOVERY_POINT, FreeSpaceWatch, remove_tree
from fastmq.server.context import BrokerContext

__all__ = ["Background"]

logger = logging.getLogger(__name__)

# Deleted directories are looked for this often; nobody waits for their space.
_REMOVE_INTERVAL_S = 1.0
_JOBS_PER_DIRECTORY = 5

Job = Callable[[int, list[Partition]], None]
"""Gets a directory and its partitions."""

OffsetChanges = dict[tuple[str, int], int | None]
"""New entries of a checkpoint; None removes one."""


class Background:
    """The periodic jobs of one broker."""

    def __init__(self, context: BrokerContext) -> None:
        self._context = context
        floor = context.config.get_int("fastmq.free.space.floor.bytes")
        self._space = [FreeSpaceWatch(floor) for _ in context.storage.directories]
        # Threads of their own: jobs that hang with their disk must not use up the handlers'.
        self._threads = trio.CapacityLimiter(_JOBS_PER_DIRECTORY * len(self._space))

    async def run(self) -> None:
        """Run all jobs until cancelled, each directory's on its own: one may hang."""
        config = self._context.config
        jobs: list[tuple[str, str, Job]] = [
            ("retention", "log.retention.check.interval.ms", self._retain),
            (
                "producer expiry",
                "producer.id.expiration.check.interval.ms",
                self._expire_producers,
            ),
            (
                "recovery points",
                "log.flush.offset.checkpoint.interval.ms",
                self._checkpoint_recovery_points,
            ),
            (
                "log starts",
                "log.flush.start.offset.checkpoint.interval.ms",
                self._checkpoint_log_starts,
            ),
            (
                "high watermarks",
                "replica.high.watermark.checkpoint.interval.ms",
                self._checkpoint_high_watermarks,
            ),
        ]
        async with trio.open_nursery() as nursery:
            for name, key, job in jobs:
                for dir_id in range(len(self._context.storage.directories)):
                    nursery.start_soon(
                        self._every, name, config.get_int(key) / 1000, job, dir_id, name=name
                    )
            nursery.start_soon(self._remove_deleted, name="removal of deleted partitions")
            if config.get_int("fastmq.free.space.floor.bytes"):
                nursery.start_soon(self._watch_space, name="free space")

    async def _every(self, name: str, interval_s: float, job: Job, dir_id: int) -> None:
        while True:
            await self._context.clock.sleep(interval_s)
            if not self._context.storage.directories[dir_id].is_online:
                continue
            # Read here, where topics change, not in the thread.
            handles = [h for h in self._context.topics.handles() if h.dir_id == dir_id]
            try:
                await trio.to_thread.run_sync(job, dir_id, handles, limiter=self._threads)
            except Exception:
                logger.exception("%s failed; it is tried again later", name)

    def _now_ms(self) -> int:
        """Return the broker's time, from a worker thread."""
        return trio.from_thread.run_sync(self._context.clock.now_ms)

    def _each(
        self, handles: list[Partition], work: Callable[[Partition], object], what: str
    ) -> None:
        """Do something to each partition; one that fails does not stop the others."""
        for number, handle in enumerate(handles):
            if number % MAINTENANCE_SLICE == 0:
                # Lets a stop come through.
                trio.from_thread.check_cancelled()
            try:
                work(handle)
            except PartitionError as exc:
                logger.warning("%s of %s-%d: %s", what, handle.topic, handle.index, exc)

    # Retention and expiry.

    def _retain(self, _dir_id: int, handles: list[Partition]) -> None:
        now_ms = self._now_ms()

        def retain(handle: Partition) -> None:
            if not handle.is_open() and not self._has_old_files(handle, now_ms):
                return
            handle.roll_if_due(now_ms)
            count = handle.apply_retention(now_ms)
            if count:
                logger.info("%s-%d: %d segments deleted", handle.topic, handle.index, count)

        self._each(handles, retain, "retention")

    def _has_old_files(self, handle: Partition, now_ms: int) -> bool:
        """Return whether retention could delete something in a log that is not open."""
        topic = self._context.topics.get(handle.topic)
        if topic is None or not topic.config.is_deleted_by_retention:
            return False
        retention_ms = topic.config.get_int("retention.ms")
        retention_bytes = topic.config.get_int("retention.bytes")
        size, oldest_ms = 0, now_ms
        try:
            with os.scandir(handle.path) as entries:
                for entry in entries:
                    if entry.name.endswith(".log"):
                        stat = entry.stat()
                        size += stat.st_size
                        if stat.st_size:
                            oldest_ms = min(oldest_ms, int(stat.st_mtime * 1000))
        except OSError:
            return True
        too_old = retention_ms >= 0 and oldest_ms < now_ms - retention_ms
        return too_old or 0 <= retention_bytes < size

    def _expire_producers(self, _dir_id: int, handles: list[Partition]) -> None:
        now_ms = self._now_ms()
        self._each(
            [handle for handle in handles if handle.is_open()],
            lambda handle: handle.expire_producers(now_ms),
            "producer expiry",
        )

    # Checkpoints.

    def _checkpoint(
        self, dir_id: int, name: str, handles: list[Partition], read: Callable[[Partition], int]
    ) -> None:
        table: OffsetChanges = {}

        def note(handle: Partition) -> None:
            table[handle.topic, handle.index] = read(handle)

        self._each([handle for handle in handles if handle.is_open()], note, name)
        self._write_checkpoint(dir_id, name, table)

    def _write_checkpoint(self, dir_id: int, name: str, table: OffsetChanges) -> bool:
        # Topics may have been deleted since their last entry; those entries go, too.
        storage, topics = self._context.storage, self._context.topics
        for topic, index in storage.checkpointed(dir_id, name):
            if topics.get(topic) is None:
                table[topic, index] = None
        try:
            storage.checkpoint(dir_id, name, table)
        except OSError as exc:
            logger.error("cannot write %s: %s", name, exc)  # noqa: TRY400
            return False
        return True

    def _checkpoint_recovery_points(self, dir_id: int, handles: list[Partition]) -> None:
        self._checkpoint(dir_id, RECOVERY_POINT, handles, lambda handle: handle.flush())

    def _checkpoint_log_starts(self, dir_id: int, handles: list[Partition]) -> None:
        self._checkpoint(dir_id, LOG_START, handles, lambda handle: handle.log_start())

    def _checkpoint_high_watermarks(self, dir_id: int, handles: list[Partition]) -> None:
        self._checkpoint(dir_id, HIGH_WATERMARK, handles, lambda handle: handle.high_watermark())

    # Files and space.

    async def _remove_deleted(self) -> None:
        deletions = self._context.topics.deletions
        while True:
            while deletions:
                path = deletions.popleft()
                await trio.to_thread.run_sync(self._remove, path)
            await trio.sleep(_REMOVE_INTERVAL_S)

    def _remove(self, path: str) -> None:
        try:
            remove_tree(self._context.storage.disk, path)
        except OSError as exc:
            logger.warning("cannot remove %s, the next start tries again: %s", Path(path).name, exc)

    async def _watch_space(self) -> None:
        interval_s = self._context.config.get_int("fastmq.free.space.check.interval.ms") / 1000
        while True:
            await trio.to_thread.run_sync(self._look_at_space)
            full = {dir_id for dir_id, watch in enumerate(self._space) if watch.is_full}
            self._context.topics.set_full_directories(full)
            await trio.sleep(interval_s)

    def _look_at_space(self) -> None:
        for watch, directory in zip(self._space, self._context.storage.directories, strict=True):
            if not directory.is_online:
                continue
            try:
                _, free = directory.space()
            except OSError as exc:
                logger.warning("cannot tell the free space of %s: %s", directory.path, exc)
                continue
            if watch.update(free):
                state = "full: producers are refused" if watch.is_full else "writable again"
                logger.warning("%s is %s (%d bytes free)", directory.path, state, free)

    # The end.

    async def close_partitions(self) -> None:
        """Close every log and mark the directories clean."""
        await trio.to_thread.run_sync(self._close_all)

    def _close_all(self) -> None:
        failed: set[int] = set()
        tables: dict[str, dict[int, OffsetChanges]] = {
            name: {} for name in (RECOVERY_POINT, LOG_START, HIGH_WATERMARK)
        }
        for handle in self._context.topics.handles():
            key = handle.topic, handle.index
            try:
                if handle.is_open():
                    for name, offset in (
                        (RECOVERY_POINT, handle.flush()),
                        (LOG_START, handle.log_start()),
                        (HIGH_WATERMARK, handle.high_watermark()),
                    ):
                        tables[name].setdefault(handle.dir_id, {})[key] = offset
                handle.close(clean=True)
            except PartitionError as exc:
                logger.error("cannot close %s-%d: %s", handle.topic, handle.index, exc)  # noqa: TRY400
                failed.add(handle.dir_id)
        for name, by_dir in tables.items():
            for dir_id, table in by_dir.items():
                if not self._write_checkpoint(dir_id, name, table):
                    failed.add(dir_id)
        for dir_id in range(len(self._context.storage.directories)):
            if dir_id not in failed:
                try:
                    self._context.storage.mark_clean(dir_id)
                except OSError as exc:
                    logger.error("cannot mark the stop as clean: %s", exc)  # noqa: TRY400
