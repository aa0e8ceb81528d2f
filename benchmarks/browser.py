"""How long a page takes to open in headless Chromium, by the browser's own navigation timing.

Speaks the Chrome DevTools protocol over a pipe: one JSON object a message, ended by a zero byte.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
FLAGS = (
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--window-size=1280,900',
    '--remote-debugging-pipe',
)
TIMING = """JSON.stringify({
  load: performance.getEntriesByType('navigation')[0].loadEventEnd,
  paint: (performance.getEntriesByName('first-contentful-paint')[0] || {startTime: 0}).startTime})"""


def find() -> str:
    """Returns the path of Chromium.

    Raises:
        FileNotFoundError: there is none.
    """
    for name in NAMES:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError('expected chromium on the path, found none; apt-get install chromium')


def opening_seconds(page: pathlib.Path) -> dict[str, float]:
    """Opens a page in a fresh browser; returns the seconds from navigation until it was painted and wholly loaded."""
    with _Browser() as browser:
        target = browser.call('Target.createTarget', {'url': 'about:blank'})['targetId']
        session = browser.call('Target.attachToTarget', {'targetId': target, 'flatten': True})['sessionId']
        browser.call('Page.enable', {}, session)
        browser.call('Page.navigate', {'url': page.resolve().as_uri()}, session)
        browser.wait_for('Page.loadEventFired')
        while True:  # the event comes before its handlers have ended, and paint may come later still
            found = browser.call('Runtime.evaluate', {'expression': TIMING, 'returnByValue': True}, session)
            times = json.loads(found['result']['value'])
            if all(times.values()):
                return {name: value / 1000 for name, value in times.items()}


class _Browser:
    """A running Chromium."""

    def __enter__(self) -> '_Browser':
        self._stack = contextlib.ExitStack()
        profile = self._stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
        # The browser reads at file descriptor 3 and writes at 4; only bash takes numbers above 9 here.
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ['bash', '-c', shell, 'bash', find(), *FLAGS, f'--user-data-dir={profile}']
        process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL, start_new_session=True
        )
        self._stack.callback(process.wait)
        # Asked to end, it can take minutes; its helpers are in its process group.
        self._stack.callback(os.killpg, process.pid, signal.SIGKILL)
        for descriptor in (theirs_in, theirs_out):
            os.close(descriptor)
        self._writer = self._stack.enter_context(os.fdopen(ours_out, 'wb', buffering=0))
        self._messages = _messages(self._stack.enter_context(os.fdopen(ours_in, 'rb', buffering=0)))
        self._count, self._events = 0, []
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def call(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        """Calls a method and returns its result; events that come meanwhile are kept.

        Raises:
            RuntimeError: the browser refused the call, or ended.
        """
        self._count += 1
        message = {'id': self._count, 'method': method, 'params': parameters}
        self._writer.write(json.dumps(message | ({'sessionId': session} if session else {})).encode() + b'\0')
        for answer in self._messages:
            if answer.get('id') == self._count:
                if 'error' in answer:
                    raise RuntimeError(f'{method}: {answer["error"]["message"]}')
                return answer['result']
            self._events.append(answer.get('method'))
        raise RuntimeError(f'{method}: the browser ended')

    def wait_for(self, event: str) -> None:
        """Waits until an event has come."""
        while event not in self._events:
            self._events.append(next(self._messages).get('method'))


def _messages(stream) -> Iterator[dict[str, Any]]:
    """Yields the messages of a browser until it ends."""
    begun = b''
    while part := stream.read(1 << 16):
        *whole, begun = (begun + part).split(b'\0')
        yield from map(json.loads, whole)
