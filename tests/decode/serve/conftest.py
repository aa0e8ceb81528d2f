import pytest
import tiny_server


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory):
    return tiny_server.write_checkpoint(tmp_path_factory.mktemp('served') / 'tiny')


@pytest.fixture(scope='session')
def adapters(checkpoint, tmp_path_factory):
    return tiny_server.write_adapters(checkpoint, tmp_path_factory.mktemp('adapters'))


@pytest.fixture(scope='session')
def url(checkpoint, adapters):
    """A server of the tiny model and two adapters, for all tests that only ask."""
    with tiny_server.serving(tiny_server.make_service(checkpoint, adapters)) as served:
        yield served.url
