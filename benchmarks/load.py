"""Measures loading: time and host memory, against safetensors' own safe_open, in alternation.

    python -m benchmarks.load --rounds=5

Writes a synthetic Llama of about 4 GiB in 8 files to a temporary folder (--gib for another size), loads it in fresh
processes on 1 device and on 8 fake ones, and appends one line for each to benchmarks/results.jsonl. Files come from
the page cache: what is measured is the loader, not the disk. Three ways, speed ratios against the first:

    safe_open   safetensors' reader; arrays as they lie on disk, cut by rows over 8 devices
    reader      this package's reader; the same arrays
    model       the whole load: tensors are also checked, stacked and laid out as the model wants them
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from benchmarks import results

PACKAGES = ('jax', 'flax', 'numpy', 'safetensors')
FILES = 8
WAYS = ('model', 'reader', 'safe_open')

flags.DEFINE_integer('rounds', 5, 'Loads of each kind; medians are reported.')
flags.DEFINE_float('gib', 4.0, 'Size of the checkpoint, about; whole layers are written.')
flags.DEFINE_bool('append', True, 'Append the results to benchmarks/results.jsonl.')
flags.DEFINE_string('load', None, 'Used by the script itself: load this folder once and print what it took.')
flags.DEFINE_integer('warm_bytes', 0, 'Used by the script itself: memory to touch before the clock starts.')
flags.DEFINE_enum('way', 'model', WAYS, 'Used by the script itself: what loads.')


def main(argv: list[str]) -> None:
    if flags.FLAGS.load:
        print(json.dumps(load_once(flags.FLAGS.load, flags.FLAGS.way)))
        return
    with tempfile.TemporaryDirectory(prefix='warmjax-load-') as folder:
        about = results.about(PACKAGES)
        size = write_checkpoint(pathlib.Path(folder), flags.FLAGS.gib)
        for devices in (1, 8):
            results.record(measure(folder, size, devices, flags.FLAGS.rounds, about), flags.FLAGS.append)


def write_checkpoint(folder: pathlib.Path, gib: float) -> int:
    """Writes config.json, 8 files and their index; returns the bytes of all tensors."""
    import ml_dtypes
    import numpy as np
    import safetensors.numpy
    from flax import nnx

    from warmjax.models import decoder, hf_rules, spec

    sizes = {'vocab_size': 65536, 'width': 2048, 'num_heads': 32, 'num_kv_heads': 8, 'head_dim': 64, 'mlp_dim': 8192}
    layer, ends = 60.8e6 * 2, 2 * 65536 * 2048 * 2
    config = {
        'model_type': 'llama',
        'vocab_size': sizes['vocab_size'],
        'hidden_size': sizes['width'],
        'num_hidden_layers': max(1, round((gib * 2**30 - ends) / layer)),
        'num_attention_heads': sizes['num_heads'],
        'num_key_value_heads': sizes['num_kv_heads'],
        'head_dim': sizes['head_dim'],
        'intermediate_size': sizes['mlp_dim'],
        'max_position_embeddings': 2048,
        'rms_norm_eps': 1e-5,
        'rope_theta': 10000.0,
        'hidden_act': 'silu',
        'tie_word_embeddings': False,
        'torch_dtype': 'bfloat16',
    }
    (folder / 'config.json').write_text(json.dumps(config))
    model = spec.spec_from_config(config, 'benchmark')
    shapes = dict(nnx.to_flat_state(nnx.state(decoder.abstract(model, ml_dtypes.bfloat16))))
    tensors = {}
    for rule in hf_rules.rules(model):
        for name, index in hf_rules.tensors(rule, model):
            shape = shapes[rule.ours].shape[0 if index is None else 1 :]
            tensors[name] = shape[::-1] if rule.transposed else shape
    rng, names, places = np.random.default_rng(0), list(tensors), {}
    for i in range(FILES):
        mine = sorted(names)[i * len(names) // FILES : (i + 1) * len(names) // FILES]
        file = f'model-{i + 1:05d}-of-{FILES:05d}.safetensors'
        content = {name: rng.standard_normal(tensors[name], np.float32).astype(ml_dtypes.bfloat16) for name in mine}
        safetensors.numpy.save_file(content, folder / file)
        places |= dict.fromkeys(mine, file)
    (folder / 'model.safetensors.index.json').write_text(json.dumps({'metadata': {}, 'weight_map': places}))
    return sum(2 * int(np.prod(shape)) for shape in tensors.values())


def measure(folder: str, size: int, devices: int, rounds: int, about: dict) -> dict:
    """Loads in fresh processes, one way after the other."""
    taken = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            taken[way].append(run(folder, way, devices, size))
    medians = {way: statistics.median(run['seconds'] for run in runs) for way, runs in taken.items()}
    above = {way: max(run['peak_bytes'] for run in runs) - size for way, runs in taken.items()}
    return {
        'what': f'load a bfloat16 checkpoint of {size / 2**30:.2f} GiB in {FILES} files on {devices} CPU device(s)',
        **about,
        'rounds': rounds,
        'median_seconds': {way: round(seconds, 2) for way, seconds in medians.items()},
        'gb_per_second': {way: round(size / seconds / 1e9, 2) for way, seconds in medians.items()},
        'speed_ratio': {way: round(medians['safe_open'] / seconds, 2) for way, seconds in medians.items()},
        'peak_host_mib_above_the_arrays': {way: round(number / 2**20) for way, number in above.items()},
        'bytes_read': taken['model'][-1]['bytes_read'],
    }


def run(folder: str, way: str, devices: int, size: int) -> dict:
    environment = os.environ | {
        'JAX_PLATFORMS': 'cpu',
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
    }
    values = [f'--load={folder}', f'--way={way}', f'--warm_bytes={size * 3 // 2}']
    command = [sys.executable, '-m', 'benchmarks.load', *values]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])


def load_once(folder: str, way: str) -> dict:
    """Loads a folder; peak memory is this process's, above what it held before."""
    import jax
    import jax.numpy as jnp

    from warmjax import sharding
    from warmjax.models import hf_load, safetensors_file

    jax.block_until_ready(jnp.zeros(1) + 1)
    touch(flags.FLAGS.warm_bytes)
    pathlib.Path('/proc/self/clear_refs').write_text('5')  # lets the peak begin anew
    mesh = sharding.make_mesh(sharding.MeshSettings(1, -1, 2 if jax.device_count() > 1 else 1))
    before = memory('VmRSS')
    started = time.perf_counter()
    if way == 'model':
        loaded = hf_load.load(folder, jnp.bfloat16, mesh)
    else:
        loaded = (open_all if way == 'safe_open' else read_all)(pathlib.Path(folder), mesh)
    jax.block_until_ready(jax.tree.leaves(loaded))
    seconds = time.perf_counter() - started
    peak = memory('VmHWM') - before
    return {'seconds': seconds, 'peak_bytes': peak, 'bytes_read': safetensors_file.READ.total}


def touch(size: int) -> None:
    """Writes to that much memory and gives it back: a virtual machine gets its first use of a page from the host, which
    takes longer than reading it."""
    import numpy as np

    np.empty(size, np.uint8)[::4096] = 1


def memory(field: str) -> int:
    """Returns a size of this process in bytes; getrusage would count its parent's peak too."""
    lines = pathlib.Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def open_all(folder: pathlib.Path, mesh) -> dict:
    """Loads every tensor with safetensors' own reader; over several devices, cut by rows."""
    from safetensors import safe_open

    tensors = {}
    for path in sorted(folder.glob('*.safetensors')):
        with safe_open(path, framework='flax') as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                tensor = file.get_tensor(name)
                tensors[name] = by_rows(tensor, mesh) if mesh.size > 1 else tensor
    return tensors


def read_all(folder: pathlib.Path, mesh) -> dict:
    """Loads every tensor with this package's reader; over several devices, cut by rows."""
    from warmjax.models import hf_files

    entries, _ = hf_files.find_tensors(folder)
    return {name: by_rows(entry.read(), mesh) for name, entry in entries.items()}


def by_rows(tensor, mesh):
    """Puts a tensor on the devices, its rows cut over all of them."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    return jax.device_put(tensor, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))


if __name__ == '__main__':
    app.run(main)
