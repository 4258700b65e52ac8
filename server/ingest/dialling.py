"""Connected sockets by a deadline, whatever the resolver and the network do.

asyncio would do it without one: it asks the system's resolver in a thread that cannot be
interrupted, and waits for that thread before it ends. Here such a thread is left behind, and
nobody waits for it: neither who reads a stream, nor who wants the process to stop. `unless` gives
up whatever else takes its time before a connection stands, as soon as nobody wants it any more.

Bounds: DIAL_SECONDS for a socket. A resolver that hangs costs a thread until it gives up by itself
(half a minute), so a few for each source, which asks again after DIAL_SECONDS at the earliest.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

DIAL_SECONDS = 15.0
# Of those that a name has.
MAX_ADDRESSES = 4
# How often it is asked whether what is under way is still wanted.
LOOK_SECONDS = 0.1

T = TypeVar("T")


async def dial(host: str, port: int) -> socket.socket:
    """A socket connected to a host, by name. Raises OSError within DIAL_SECONDS."""
    until = asyncio.get_running_loop().time() + DIAL_SECONDS
    try:
        found = await aside(lambda: _look_up(host, port))
    except TimeoutError:
        raise socket.gaierror(
            socket.EAI_AGAIN, f"the name look-up took longer than {DIAL_SECONDS:.0f} s"
        ) from None
    return await _connect_first(found[:MAX_ADDRESSES], until)


async def aside(call: Callable[[], T]) -> T:
    """What a blocking call gives or raises; TimeoutError when it takes longer than DIAL_SECONDS."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(settle: Callable[[Any], None], outcome: object) -> None:
        def settle_once() -> None:
            if not answer.done():
                settle(outcome)

        # Nobody waits any more when the loop is closed.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle_once)

    def run() -> None:
        try:
            given = call()
        except Exception as error:  # noqa: BLE001  it is raised again where it is waited for
            tell(answer.set_exception, error)
        else:
            tell(answer.set_result, given)

    threading.Thread(target=run, name="aside", daemon=True).start()
    async with asyncio.timeout(DIAL_SECONDS):
        return await answer


async def unless(is_over: Callable[[], bool], work: Coroutine[Any, Any, T]) -> T | None:
    """What the work gives or raises; None, within LOOK_SECONDS, if it is over before that."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done() and not is_over():
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
        return task.result() if task.done() else None
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def all_of(work: Sequence[Coroutine[object, object, None]]) -> None:
    """Run these side by side until all are done, or one raises: then the others end as well."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _look_up(host: str, port: int) -> list[tuple[Any, ...]]:
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, "not a name that DNS can hold") from error


async def _connect_first(found: list[tuple[Any, ...]], until: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    problem = OSError("the name has no address")
    for index, (family, kind, protocol, _, address) in enumerate(found):
        # An address that swallows packets must not eat the time of those after it.
        seconds = max(until - loop.time(), 0.0) / (len(found) - index)
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(seconds):
                await loop.sock_connect(sock, address)
        except TimeoutError:
            sock.close()
            problem = TimeoutError(f"{address[0]} did not answer for {seconds:.0f} s")
        except OSError as error:
            sock.close()
            problem = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise problem
