"""What sessions have in common whose library runs one inference at a time and waits for it.

Requests in flight are threads of ours then. A session of that kind says how one inference runs
and what has to be given back at the end; order, bounds and closing are settled here.
"""

from __future__ import annotations

import queue
from abc import abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saccade.errors import RuntimeFailure
from saccade.models.description import Preprocessing
from saccade.runtimes.contract import OperatorTime, Session, SessionRequest, Ticket

# The place of synchronous calls, which take none in flight.
ALONE = -1


class PooledSession(Session):
    """As many threads as there are streams; `submit` waits while ``in_flight`` are under way.

    Args:
        request: what the session is opened for.
        title: the library's name, for messages.
    """

    def __init__(self, request: SessionRequest, title: str) -> None:
        self._request = request
        self._title = title
        self._closed = False
        self._pool: ThreadPoolExecutor | None = None
        # Each request in flight has a place of its own, from `submit` to `release`.
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for place in range(max(1, request.options.in_flight)):
            self._slots.put(place)

    @abstractmethod
    def _run(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        """One inference; called from several threads at once.

        Raises:
            RuntimeFailure: the library refused the input or failed.
        """

    def _run_in(self, place: int, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        """One inference, for a library whose outputs' buffers are kept and written over.

        What a place was given stays as it is until its next run.

        Args:
            place: of the request in flight, from 0, or `ALONE` for a synchronous call.
            tensor: as in `_run`, which this calls where nothing is kept.

        Raises:
            RuntimeFailure: the library refused the input or failed.
        """
        return self._run(tensor)

    @abstractmethod
    def _drop(self) -> None:
        """Give back what the library holds; nothing is under way."""

    @property
    def threads(self) -> int | None:
        """Threads of one inference: streams run at the same time, so they share what there is."""
        options = self._request.options
        return None if options.threads is None else max(1, options.threads // options.streams)

    def infer(self, tensor: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Run once and wait."""
        if self._closed:
            raise RuntimeFailure(f"The {self._title} session is closed.")
        return self._run_in(ALONE, tensor)

    def submit(self, tensor: NDArray[Any]) -> Ticket:
        """Start an inference on one of as many threads as there are streams."""
        place = self._slots.get()
        if self._closed:
            self._slots.put(place)  # for whoever else is waiting
            raise RuntimeFailure(f"The {self._title} session is closed.")
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max(1, self._request.options.streams))
        return Ticket(self._pool.submit(self._run_in, place, tensor), {"place": place})

    def collect(self, ticket: Ticket) -> list[NDArray[np.float32]]:
        """Wait for ``ticket``."""
        future: Future[list[NDArray[np.float32]]] = ticket.payload
        return future.result()

    def release(self, ticket: Ticket) -> None:
        """Allow another `submit`."""
        ticket.payload = None
        self._slots.put(ticket.meta["place"])

    def operators(self) -> list[OperatorTime]:
        """None, where the library's Python package says nothing of operators."""
        if not self._request.profile:
            raise RuntimeFailure("Operator times need a session that was opened with profile=True.")
        return []

    def close(self) -> None:
        """Finish what is under way, stop the threads and drop what the library holds."""
        if self._closed:
            return
        self._closed = True
        self._slots.put(ALONE)  # wakes a `submit` that waits for a place
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        self._drop()


def checked(tensor: NDArray[Any], pre: Preprocessing | None, title: str) -> NDArray[Any]:
    """The tensor, if it is what a session takes.

    Args:
        tensor: the input; expected are ``(1, 3, H, W)`` float32 or, with preprocessing in the
            session, ``(1, H, W, 3)`` uint8.
        pre: as in `saccade.runtimes.contract.SessionRequest.graph_preprocessing`.
        title: the library's name.

    Raises:
        RuntimeFailure: it is of another type or shape.
    """
    wanted, axis = (np.float32, 1) if pre is None else (np.uint8, 3)
    one_image = tensor.ndim == 4 and tensor.shape[0] == 1 and tensor.shape[axis] == 3
    if tensor.dtype != wanted or not one_image:
        layout = "(1, 3, H, W)" if pre is None else "(1, H, W, 3)"
        raise RuntimeFailure(
            f"{title} was given {tensor.dtype} of shape {tensor.shape}; {np.dtype(wanted)} of "
            f"shape {layout} was expected."
        )
    return tensor
