import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from warmjax import progress
from warmjax.compilation import Once


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(progress, 'say', lines.append)
    return lines


@pytest.fixture
def cache(tmp_path):
    """A folder in which compiled programs are kept, however fast they were made."""
    names = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in zip(names, (str(tmp_path), 0.0), strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_program_is_compiled_at_the_first_call_and_takes_no_other_shape(said):
    double = Once(jax.jit(lambda x: 2 * x, donate_argnums=0), 'doubling')
    assert [double(jnp.full(3, value)).tolist() for value in (1.0, 2.0)] == [[2.0] * 3, [4.0] * 3]
    assert len(said) == 1 and said[0].startswith('doubling: compiled in ')
    for other in (jnp.ones(4), jnp.ones(3, jnp.int32)):
        with pytest.raises(TypeError, match='compiled'):
            double(other)


def test_second_process_finds_the_program_in_the_cache(said, cache):
    for _ in range(2):
        Once(jax.jit(lambda x: jnp.sin(x) * 3), 'sine')(jnp.ones(5))
        jax.clear_caches()
    assert [line.rpartition(': ')[2] for line in said] == ['miss)', 'hit)'] and str(cache) in said[0]
