import importlib.util
import pathlib
import re
import subprocess
import sys

import jax
import pytest
import tiny_llama
from flax import nnx

from warmjax import verify
from warmjax.models import hf_load

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments) -> tuple[int, str]:
    """Runs the launcher as a user does."""
    done = subprocess.run([sys.executable, '-m', 'launch.verify', *arguments], cwd=ROOT, capture_output=True)
    return done.returncode, re.sub(r'\s+', ' ', (done.stdout + done.stderr).decode())


@pytest.mark.parametrize('model_type', [*tiny_llama.FAMILIES, 'gpt2'])
def test_every_family_passes_without_a_tokenizer(tmp_path, model_type):
    tiny_llama.save(tmp_path, model_type=model_type, **({'gpt2': {}} | tiny_llama.FAMILIES)[model_type])
    checks = verify.verify(str(tmp_path), None, 'float32', tiny_llama.make_mesh())
    assert [check.name.split(':')[0] for check in checks] == ['logits'] * 3 + ['greedy continuations of 24']
    assert all(check.is_passed for check in checks), checks
    assert checks[2].found == '100.00% of 120'


def test_wrong_port_differs_in_every_respect(tmp_path, monkeypatch):
    tiny_llama.save(tmp_path)
    load = hf_load.load

    def with_another_norm(*arguments):
        model = load(*arguments)
        graphdef, state = nnx.split(model)
        state.layers.input_layernorm.weight = jax.tree.map(lambda x: 3 - x, state.layers.input_layernorm.weight)
        return nnx.merge(graphdef, state)

    monkeypatch.setattr(hf_load, 'load', with_another_norm)
    checks = verify.verify(str(tmp_path), None, 'float32', tiny_llama.make_mesh())
    assert not any(check.is_passed for check in checks)


def test_bfloat16_has_limits_of_its_own(tmp_path):
    tiny_llama.save(tmp_path)
    checks = verify.verify(str(tmp_path), None, 'bfloat16', tiny_llama.make_mesh())
    assert all(check.is_passed for check in checks), checks
    assert checks[0].allowed == '<= 1e-01' and float(checks[0].found) > 1e-4


def test_real_checkpoint_passes_with_its_tokenizer_and_template(shared_data):
    status, output = run(f'--checkpoint={shared_data / "stories260K" / "hf"}')
    assert status == 0, output
    for line in ('token ids of texts │ 6 of 6 equal', 'renderings │ 4 of 4 equal', 'same likeliest token │ 100.00%'):
        assert line in output


def test_difference_makes_the_status_1(tmp_path):
    tiny_llama.save(tmp_path)
    broken = 'import jax.numpy as jnp; from warmjax.models import layers; layers.rotate = lambda x, cos, sin: x'
    code = f'{broken}; import sys; sys.argv = ["verify", "--checkpoint={tmp_path}"]; import runpy; '
    code += 'runpy.run_module("launch.verify", run_name="__main__")'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True)
    assert done.returncode == 1, done.stderr.decode()
    assert 'DIFFERS' in done.stdout.decode()


def test_what_cannot_be_compared_is_explained_with_status_2(tmp_path):
    status, output = run(f'--checkpoint={tmp_path}')
    assert status == 2
    assert 'config.json: expected a Hugging Face checkpoint folder' in output and 'Traceback' not in output
    tiny_llama.save(tmp_path)
    with pytest.raises(ValueError, match=r'Qwen2\.5-7B: expected the published dimensions'):
        verify.verify(str(tmp_path), 'Qwen2.5-7B', 'float32', tiny_llama.make_mesh())


def test_without_torch_the_remedy_is_named(tmp_path, monkeypatch):
    tiny_llama.save(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name == 'torch' else find(name))
    with pytest.raises(ValueError, match='got no torch; install them beside warmjax: pip install torch transformers'):
        verify.verify(str(tmp_path), None, 'float32', tiny_llama.make_mesh())
