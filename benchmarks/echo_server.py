"""A server that costs next to nothing: it answers every chat completion, after a fixed time, with the reply in it.

    python -m benchmarks.echo_server --latency=0.05

It prints its address. The reply, what stands between <reply> tags of the last message, goes back as it came, escaped as
it is, so no JSON is read or written; a call takes some 0.1 ms of CPU, where a real service would run elsewhere. It
waits by select(), to the microsecond, so that no answer is early; loops that count in milliseconds answer up to 0.4 ms
early.
"""

import argparse
import asyncio
import re
import selectors

_LENGTH = re.compile(rb'content-length: *(\d+)', re.IGNORECASE)
_REPLY = re.compile(rb'<reply>\\n(.*)\\n</reply>', re.DOTALL)
_BODY = (
    b'{"id": "chatcmpl-0", "object": "chat.completion", "created": 1700000000, "model": "loopback", "choices": '
    b'[{"index": 0, "message": {"role": "assistant", "content": "Sure: %b", "refusal": null}, "finish_reason": "stop", '
    b'"logprobs": null}], "usage": {"prompt_tokens": 500, "completion_tokens": 200, "total_tokens": 700}}'
)
_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b'


class Connection(asyncio.Protocol):
    """Takes one request after another; `latency` in seconds runs from its last byte to the answer."""

    def __init__(self, latency: float):
        self._latency, self._received = latency, b''
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        start = self._received.find(b'\r\n\r\n') + 4
        if start < 4:
            return
        end = start + int(_LENGTH.search(self._received, 0, start)[1])
        if len(self._received) >= end:
            body = _BODY % _REPLY.search(self._received, start, end)[1]
            self._received = self._received[end:]
            self._loop.call_later(self._latency, self._transport.write, _ANSWER % (len(body), body))


async def serve(latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(latency), '127.0.0.1', 0, backlog=1024)
    print(f'http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1', flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--latency', type=float, default=0.05, help='seconds before an answer')
    latency = parser.parse_args().latency
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(serve(latency))


if __name__ == '__main__':
    main()
