"""Runs a coroutine to its end for a caller that is not asynchronous, whether or not a loop runs around it.

A notebook has a loop in its thread, which cannot run another; there the work gets a thread of its own.
"""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_blocking(work: Coroutine[Any, Any, Result]) -> Result:
    """Run it; where the caller is interrupted meanwhile, cancel it and wait until it has ended in good order."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    return _run_beside(work)


def _run_beside(work: Coroutine[Any, Any, Result]) -> Result:
    began: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = Future()

    async def main() -> Result:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (a coroutine always runs in a task)
        began.set_result((asyncio.get_running_loop(), task))
        return await work

    with ThreadPoolExecutor(1, thread_name_prefix="batchsubmit") as pool:
        result = pool.submit(asyncio.run, main())
        try:
            return result.result()
        except BaseException:
            if not result.done():  # it is the wait that was interrupted, not the work that failed
                loop, task = began.result()
                loop.call_soon_threadsafe(task.cancel)
            raise
