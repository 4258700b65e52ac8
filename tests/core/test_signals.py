"""A signal may come at any moment, also while the main thread waits for what the signal sets."""

import signal
import threading

import pytest

from server.core.signals import stop_at_signals


@pytest.fixture
def stop():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    event = threading.Event()
    stop_at_signals(event)
    yield event
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_heard_also_while_the_lock_of_the_event_is_held(stop, signum):
    handle = signal.getsignal(signum)
    # As the main thread does for a moment at the end of each wait.
    with stop._cond:
        handler = threading.Thread(target=handle, args=(signum, None), daemon=True)
        handler.start()
        handler.join(5)
        assert not handler.is_alive()
        assert not stop.is_set()
    assert stop.wait(5)
