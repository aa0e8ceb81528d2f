"""What every test stands on: 8 fake CPU devices, float32, no network, and real inputs where they are at hand."""

import importlib.metadata
import os
import pathlib
import socket

import hypothesis
import pytest

hypothesis.settings.register_profile('untimed', deadline=None)  # no test depends on how fast the machine is
hypothesis.settings.load_profile('untimed')

# Tests compile much and compute little, so LLVM need not try hard; and XLA's older emitters, where it still has them,
# take half as long.
QUICK_TO_COMPILE = '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
if importlib.metadata.version('jaxlib').startswith('0.10.'):  # XLA ends the process at a flag that it does not know
    QUICK_TO_COMPILE += ' --xla_cpu_use_fusion_emitters=false'
os.environ.setdefault('XLA_FLAGS', f'--xla_force_host_platform_device_count=8 {QUICK_TO_COMPILE}')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('OMP_NUM_THREADS', '1')  # threads of torch and numpy that wait for tiny products do so busily
os.environ['HF_HUB_OFFLINE'] = '1'
os.environ['TOKENIZERS_PARALLELISM'] = 'false'

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / 'shared' / 'data'
LOOPBACK = ('127.', '::1', 'localhost')


@pytest.fixture(scope='session')
def shared_data() -> pathlib.Path:
    """The folder of real checkpoints, conversations and questions, which is not part of the project."""
    if not SHARED_DATA.is_dir():
        pytest.skip('real inputs not at hand: ../shared/data is not there')
    return SHARED_DATA


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Lets a test reach this machine only."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(LOOPBACK):
            raise OSError(f'tests run without a network, but one asked for {address}')
        return connect(self, address)

    monkeypatch.setattr(socket.socket, 'connect', guarded)
