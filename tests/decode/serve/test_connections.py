import socket
import threading

import uvicorn
from tiny_server import wait_until

from warmjax.decode.serve import server
from warmjax.decode.serve.connections import make_protocol


def test_client_that_does_not_read_is_cut_off():
    seen = []

    async def app(scope, receive, send):
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})
        for _ in range(300):
            await send({'type': 'http.response.body', 'body': b'x' * 2**17, 'more_body': True})
        seen.append((await receive())['type'])
        seen.append((await receive())['type'])

    config = uvicorn.Config(app, http=make_protocol(20.0, 0.2), lifespan='off', log_level='error')
    bound, running = server.bind('127.0.0.1', 0), uvicorn.Server(config)
    thread = threading.Thread(target=running.run, args=([bound],))
    thread.start()
    try:
        wait_until(lambda: running.started)
        with socket.create_connection(bound.getsockname()) as client:
            client.sendall(b'GET / HTTP/1.1\r\nHost: x\r\n\r\n')
            wait_until(lambda: 'http.disconnect' in seen)
    finally:
        running.should_exit = True
        thread.join()
    assert seen[-1] == 'http.disconnect'
