"""Package definition of warmjax. `pip install -e '.[report]'` is enough for the embedded study."""

import pathlib

import setuptools

CORE = [
    'absl-py>=2.1',
    'aiolimiter>=1.2',
    'datasets>=3.0',
    'einops>=0.8',
    'etils[epath]>=1.9',
    'flax>=0.12.8',
    'grain>=0.2.12',
    'huggingface_hub>=0.26',
    'jax>=0.10',
    'jaxtyping>=0.2.36',
    'jinja2>=3.1.5',
    'ml_collections>=1.0',
    'numpy>=2.0',
    'optax>=0.2.5',
    'orbax-checkpoint>=0.11.20',
    'py3langid>=0.3',
    'pydantic>=2.9',
    'rapidfuzz>=3.10',
    'rich>=13.9',
    'safetensors>=0.5',
    'tenacity>=9.0',
    'tensorboardX>=2.6.2',
    'tensorflow-datasets>=4.9.7',
    'tokenizers>=0.21',
    'transformers>=4.57',
]

EXTRAS = {
    'tpu': ['jax[tpu]>=0.10', 'gcsfs'],
    'cuda': ['jax[cuda13]>=0.10'],
    'api': ['openai>=3.50', 'anthropic>=2.10', 'aiohttp>=3.11', 'uvloop>=0.21'],
    'filter': ['torch>=2.6'],
    'hub': ['inspect_ai>=0.3.150'],
    'serve': ['prometheus_client>=0.21', 'starlette>=0.45', 'uvicorn>=0.34'],
    'report': ['matplotlib>=3.9', 'pandas>=2.2', 'scipy>=1.14', 'statsmodels>=0.14.4'],
}
EXTRAS['dev'] = (
    EXTRAS['api']
    + EXTRAS['report']
    + EXTRAS['serve']
    + [
        'chex>=0.1.88',
        'detoxify>=0.5.4',
        'httpx>=0.27',
        'hypothesis>=6.120',
        "jax[tpu]>=0.10; platform_system == 'Linux' and platform_machine == 'x86_64'",  # libtpu needs no TPU
        'peft>=0.14',
        'pytest>=8.3',
        'pytest-xdist>=3.6',
        'qwix>=0.1.8',
        'ruff>=0.9',
        'torch>=2.6',
    ]
)

setuptools.setup(
    name='warmjax',
    version='0.1.0',
    description='What training a language model for warmth does to its reliability, in JAX, on any accelerator.',
    long_description=pathlib.Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.11',
    packages=setuptools.find_packages(include=['warmjax', 'warmjax.*', 'launch', 'launch.*', 'configs']),
    package_data={'warmjax': ['**/*.json', '**/*.html', '**/*.css', '**/*.txt', '**/*.csv', '**/*.js']},
    install_requires=CORE,
    extras_require=EXTRAS,
)
