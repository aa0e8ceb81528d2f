"""Two processes load one checkpoint onto a mesh that spans them; each reads its share of the bytes and no more."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny_llama
from flax import nnx

ROOT = pathlib.Path(__file__).resolve().parents[2]

WORKER = """
import json, sys
import jax, numpy as np
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
port, process, folder, fsdp, tensor = sys.argv[1:]
jax.distributed.initialize(f'127.0.0.1:{port}', 2, int(process))
import jax.numpy as jnp
from flax import nnx
from warmjax import sharding
from warmjax.models import hf_load, safetensors_file
mesh = sharding.make_mesh(sharding.MeshSettings(-1, int(fsdp), int(tensor)))
state = nnx.to_flat_state(nnx.state(hf_load.load(folder, jnp.float32, mesh)))
pieces = {
    '.'.join(path): [[str(s.index), np.asarray(s.data, np.float64).sum()] for s in x.get_value().addressable_shards]
    for path, x in state
}
print(json.dumps({'devices': jax.device_count(), 'read': safetensors_file.READ.total, 'pieces': pieces}))
"""


def load_in_two_processes(folder, fsdp: int, tensor: int) -> list[dict]:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    environment = os.environ | {
        'PYTHONPATH': str(ROOT),
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': '--xla_force_host_platform_device_count=4',
    }
    commands = [
        [sys.executable, '-c', WORKER, str(port), str(i), str(folder), str(fsdp), str(tensor)] for i in range(2)
    ]
    workers = [
        subprocess.Popen(c, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for c in commands
    ]
    try:
        results = [worker.communicate(timeout=120) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert all(worker.returncode == 0 for worker in workers), results[0][1] + results[1][1]
    return [json.loads(output.splitlines()[-1]) for output, _ in results]


@pytest.mark.parametrize(('fsdp', 'tensor'), [(8, 1), (2, 2)])
def test_each_of_two_processes_reads_its_half_and_they_hold_the_model(tmp_path, fsdp, tensor):
    tiny_llama.save(tmp_path, vocab_size=88, head_dim=12, intermediate_size=40)
    alone = dict(nnx.to_flat_state(nnx.state(tiny_llama.load(tmp_path))))
    results = load_in_two_processes(tmp_path, fsdp, tensor)
    assert [result['devices'] for result in results] == [8, 8]
    total = sum(4 * leaf.size for leaf in jax.tree.leaves(alone))
    assert [result['read'] for result in results] == [total / 2, total / 2]
    for result in results:
        for path, variable in alone.items():
            whole = np.asarray(variable.get_value(), np.float64)
            for index, found in result['pieces']['.'.join(path)]:
                expected = whole[eval(index, {'slice': slice})].sum()
                np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)
