"""Connections that do not wait for ever: uvicorn's, with limits for clients that stall."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def make_protocol(read_seconds: float, write_seconds: float) -> type[H11Protocol]:
    """Makes the class of a server's connections.

    Args:
        read_seconds: in which the head of a request must be there, from its first byte or the connection's start.
        write_seconds: in which a client must have taken most of what lies in the buffer for it, once that is full.
    """

    class Connection(H11Protocol):
        _reading: asyncio.TimerHandle | None = None
        _writing: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._reading = self.loop.call_later(read_seconds, self._cut)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            is_asked = self.cycle is not None and not self.cycle.response_complete
            if is_asked and self._reading is not None:
                self._reading.cancel()
                self._reading = None
            elif not is_asked and self._reading is None:
                self._reading = self.loop.call_later(read_seconds, self._cut)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._writing = self.loop.call_later(write_seconds, self._cut)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._writing is not None:
                self._writing.cancel()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._reading, self._writing):
                if timer is not None:
                    timer.cancel()
            super().connection_lost(exc)

        def _cut(self) -> None:
            self.transport.abort()

    return Connection
