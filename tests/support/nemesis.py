"""Faults of all kinds at a cluster, some of them at once."""

import contextlib
import random
import signal
import time
from collections.abc import Callable

from support.blackbox import SESSION_MS, BlackBox

READY_S = 60.0


class Nemesis:
    """Draws some of the faults every few seconds, sometimes none (Jepsen's way), and ends them."""

    def __init__(self, box: BlackBox, rng: random.Random) -> None:
        self.box = box
        self.rng = rng
        self.faults: dict[str, Callable[[contextlib.ExitStack], None]] = {
            "pause": self.pause,
            "kill": self.kill,
            "cut": self.cut,
            "slow": self.slow,
            "store": self.store,
        }

    def spell(self) -> None:
        """One drawing; all of it is over, and all brokers serve, when this returns."""
        chosen = [name for name in self.faults if self.rng.random() < 0.4]
        print(f"    {', '.join(chosen) or 'nothing'}", flush=True)
        with contextlib.ExitStack() as stack:
            for name in chosen:
                self.faults[name](stack)
            time.sleep(self.rng.uniform(1.0, 2.5) * SESSION_MS / 1000)
        for broker in self.box.brokers.values():
            broker.wait_ready(READY_S)

    def one(self) -> int:
        """One of the brokers that run."""
        return self.rng.choice([n for n, broker in self.box.brokers.items() if broker.is_running()])

    def pause(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(self.box.paused(self.one()))

    def kill(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(self.killed(self.one()))

    @contextlib.contextmanager
    def killed(self, node_id: int):
        self.box.brokers[node_id].kill()
        try:
            yield
        finally:
            self.box.brokers[node_id].spawn()

    def cut(self, stack: contextlib.ExitStack) -> None:
        shapes = self.box.shapes(self.one())
        stack.enter_context(self.box.cut_off(shapes[self.rng.choice(sorted(shapes))]))

    def slow(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(self.box.slowed(self.one(), self.rng.choice([64, 256, 1024])))

    def store(self, stack: contextlib.ExitStack) -> None:
        member = self.rng.randrange(3)
        self.box.etcd.signal(member, signal.SIGSTOP)
        stack.callback(self.box.etcd.signal, member, signal.SIGCONT)
