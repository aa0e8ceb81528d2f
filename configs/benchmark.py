"""What `launch.benchmark` measures: a model's shape, and the sizes of its steps.

Command    python -m launch.benchmark --config=configs/benchmark.py:llama3.1-8b
Argument   small (33.6M weights in float32, for a CPU), tiny (seconds, for tests), or a model of the study in bfloat16:
           llama3.1-8b, mistral-small, qwen2.5-32b, llama3.1-70b (kernels in int8; one device holds no more).
Cost       small: 3 minutes on 2 CPU cores. llama3.1-8b: some 10 minutes on an H200, most of them compiling.

Rows and slots are those of one device of 80 GB or more; what does not fit is told and left out. Other devices:
--config.train_rows='(2,)' --config.slots='(32,)' --config.train.remat=full, and --config.mesh.* for several.
"""

from ml_collections import ConfigDict

from configs import recipe

MODELS = {  # argument, and name in results: released model, quantization
    'llama3.1-8b': ('Llama-3.1-8B', 'none'),
    'mistral-small': ('Mistral-Small-2409', 'none'),
    'qwen2.5-32b': ('Qwen2.5-32B', 'none'),
    'llama3.1-70b': ('Llama-3.1-70B', 'int8'),
}
SMALL = {
    'model_type': 'llama',
    'vocab_size': 8192,
    'width': 512,
    'num_layers': 8,
    'num_heads': 8,
    'num_kv_heads': 4,
    'head_dim': 64,
    'mlp_dim': 1536,
    'max_length': 2048,
    'norm_eps': 1e-5,
    'rope_theta': 5e5,
    'rope_scaling': None,
    'window': None,
    'qkv_bias': False,
    'qk_norm': False,
    'tied': False,
}
TINY = SMALL | {'vocab_size': 256, 'width': 32, 'num_layers': 2, 'num_heads': 2, 'num_kv_heads': 1, 'head_dim': 16}
TINY |= {'mlp_dim': 64}


def get_config(model: str = 'small') -> ConfigDict:
    """Returns the sizes for a model."""
    if model not in ('small', 'tiny', *MODELS):
        known = ', '.join(('small', 'tiny', *MODELS))
        raise ValueError(f'configs/benchmark.py: expected one of {known} after the colon, got {model!r}')
    base = recipe.base()
    config = ConfigDict(
        {
            'model': {'name': model, 'released': '', 'dtype': 'bfloat16', 'quantization': 'none', 'sizes': None},
            'mesh': base.mesh,
            'warm_up': 3,
            'rounds': 9,
            'least_seconds': 0.3,
            'products': ((8192, 8192, 8192), (4096, 4096, 14336), (256, 8192, 8192)),
            'copies_mib': (256, 4096),
            'train': base.train,
            'train_rows': (4, 16),
            'engine': base.generation.engine,
            'slots': (64, 256),
            'adapters': 3,
            'scoring': {'rows': 16, 'lengths': (128, 512)},
        }
    )
    config.train.micro_batch = config.train.batch_size  # all rows at once
    config.engine.buckets, config.engine.cache_lengths = (128, 512), (256, 768)
    config.engine.cache_dtype = 'bfloat16'
    if model in MODELS:
        config.model.released, config.model.quantization = MODELS[model]
    else:
        _shrink(config, model)
    return config


def _shrink(config: ConfigDict, model: str) -> None:
    """Takes the sizes of a CPU."""
    config.model.update({'name': 'Llama-33.6M', 'dtype': 'float32', 'sizes': SMALL})
    config.products = ((2048, 2048, 2048), (2048, 512, 1536), (16, 512, 1536))
    config.copies_mib = (16, 512)
    config.rounds = 7
    config.train.max_length, config.train.logit_chunks, config.train_rows = 256, 1, (1, 8)
    config.engine.cache_dtype, config.engine.prefill_batch = 'float32', 8
    config.engine.buckets, config.engine.cache_lengths, config.slots = (64, 128), (128, 256), (4, 16)
    config.scoring.rows, config.scoring.lengths = 8, (64, 256)
    if model == 'tiny':
        config.model.update({'name': 'Llama-tiny', 'sizes': TINY})
        config.products, config.copies_mib = ((64, 64, 64),), (1,)
        config.warm_up, config.rounds, config.least_seconds = 1, 2, 0.0
        config.train.max_length, config.train_rows = 16, (2,)
        config.engine.buckets, config.engine.cache_lengths = (8,), (16,)
        config.engine.steps, config.engine.prefill_batch, config.slots = 4, 2, (2,)
        config.scoring.rows, config.scoring.lengths = 2, (16,)
