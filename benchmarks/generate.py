"""Measures generation on this CPU, against transformers and against one pass for each adapter, in alternation.

    python -m benchmarks.generate --rounds=5

The model is a random Llama of 33.6M parameters (hidden 512, 8 layers, 8 heads, 4 key-value heads, feed-forward 1,536,
vocabulary 8,192), the same weights on both sides, in float32 or rounded to bfloat16. Four cases, a line each in
benchmarks/results.jsonl:

    batch     16 prompts of 64 tokens, 128 new ones each, nobody stops: greedy and sampled at 0.8, against transformers
              in float32 and bfloat16 with a growing and a fixed cache; greedy tokens in float32 must be equal
    mixed     512 prompts of 16 to 128 tokens that end after 8 to 128 new ones on 32 slots, against transformers in
              batches of 32 that last as long as their longest text; and how many of the slots' steps were used
    arms      4 prompts of 32 tokens asked of each of 6 adapters (rank 8, all linear maps), in one pass on 12 slots and
              in a pass for each on 2: as many texts of an arm under way, the base's weights read once instead of six
              times. The model is wider (hidden 2,048, 4 layers, feed-forward 5,632: 222M, in bfloat16), so that the
              base dominates
    prefix    64 prompts of 128 tokens of which the first 100 are the same, computed once or for each; 16 new ones

A text of `mixed` ends where its budget says, in both ways alike, since a random model's stop ids come at random.
Compiling and a first run of each way are not counted.
"""

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping

import numpy as np
from absl import app, flags

from benchmarks import results

PACKAGES = ('jax', 'flax', 'numpy', 'torch', 'transformers')
VOCABULARY, NEW = 8192, 128
SMALL = {'width': 512, 'mlp_dim': 1536, 'num_layers': 8}
OCCUPANCY = ('slot_occupancy_of_the_whole_run', 'slot_occupancy_while_prompts_wait')
"""Steps times slots that brought a token or an end, of all: with the last texts, while free slots find no prompt, and
without."""
CASES = ('batch', 'mixed', 'arms', 'prefix')

flags.DEFINE_multi_enum('case', CASES, CASES, 'What to measure.')
flags.DEFINE_integer('rounds', 5, 'Runs of each way; medians are reported.')
flags.DEFINE_integer('prompts', 512, 'Prompts of the mixed case.')
flags.DEFINE_integer('refill', 2, 'How many texts of the mixed case end before their slots are filled.')
flags.DEFINE_bool('append', True, 'Append the results to benchmarks/results.jsonl.')


def main(argv: list[str]) -> None:
    for case in flags.FLAGS.case:
        with tempfile.TemporaryDirectory(prefix='warmjax-generate-') as folder:
            about = results.about(PACKAGES)
            what, ways, facts, *warm = {'batch': batch, 'mixed': mixed, 'arms': arms, 'prefix': prefix}[case](folder)
            measured = compare(ways, flags.FLAGS.rounds, *warm)
            results.record({'what': what} | about | measured | facts(), flags.FLAGS.append)


def compare(
    ways: Mapping[str, Callable[[], int]], rounds: int, warm: Mapping[str, Callable[[], int]] | None = None
) -> dict:
    """Runs each way, or what `warm` has for it, once without counting, then all in turn; a way returns how many tokens
    it generated."""
    for way in (warm or ways).values():
        way()
    tokens: dict[str, int] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(rounds):
        for name in list(ways)[:: 1 if index % 2 == 0 else -1]:
            started = time.perf_counter()
            tokens[name] = ways[name]()
            seconds[name].append(time.perf_counter() - started)
        print(
            f'round {index}: ' + ', '.join(f'{name} {values[-1]:.2f} s' for name, values in seconds.items()), flush=True
        )
    ours = [name for name in ways if name.startswith('warmjax')]
    return {
        'rounds': rounds,
        'median_tokens_per_second': {n: round(tokens[n] / statistics.median(s), 1) for n, s in seconds.items()},
        'spread': {n: [round(tokens[n] / max(s), 1), round(tokens[n] / min(s), 1)] for n, s in seconds.items()},
        'speed_ratio': {
            mine: {
                other: round(statistics.median(ratios(tokens, seconds, mine, other)), 2)
                for other in ways
                if other not in ours or (other != mine and mine == ours[0])
            }
            for mine in ours
        },
    }


def ratios(tokens: Mapping[str, int], seconds: Mapping[str, list[float]], mine: str, other: str) -> list[float]:
    """Returns how many times as fast as another a way was, round by round."""
    return [tokens[mine] / a / (tokens[other] / b) for a, b in zip(seconds[mine], seconds[other], strict=True)]


def write_model(folder: str, width: int, mlp_dim: int, num_layers: int) -> dict:
    """Writes a random Llama to the folder; returns it in torch, by dtype."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=mlp_dim,
        num_hidden_layers=num_layers,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        rope_parameters={'rope_type': 'default', 'rope_theta': 500000.0},
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    load = transformers.LlamaForCausalLM.from_pretrained
    return {dtype: load(folder, dtype=getattr(torch, dtype)).eval() for dtype in ('float32', 'bfloat16')}


def batch(folder: str) -> tuple[str, dict, Callable[[], dict]]:
    """16 equal prompts, nobody stops."""
    models = write_model(folder, **SMALL)
    prompts = np.random.default_rng(0).integers(1, VOCABULARY, (16, 64))
    sizes = {'slots': 16, 'prefill_batch': 16, 'buckets': (64,), 'cache_lengths': (96, 128, 160, 192), 'steps': 32}
    ours = {dtype: make_engine(folder, {}, dtype, **sizes) for dtype in models}
    fixed = {'cache_implementation': 'static'}
    ways = {
        f'warmjax {dtype} {how}': lambda engine=engine, t=temperature: count(answer(engine, requests(prompts, t)))
        for dtype, engine in ours.items()
        for how, temperature in (('greedy', 0.0), ('sampled', 0.8))
    } | {
        f'transformers {dtype} greedy, {name} cache': transformers_way(models[dtype], prompts, **cache)
        for dtype in models
        for name, cache in (('growing', {}), ('fixed', fixed))
    }
    ways['transformers float32 sampled, growing cache'] = transformers_way(models['float32'], prompts, temperature=0.8)

    def facts() -> dict:
        mine = answer(ours['float32'], requests(prompts, 0.0))
        theirs = generate(models['float32'], prompts, NEW)[:, prompts.shape[1] :]
        equal = np.mean([mine[str(i)] == row.tolist() for i, row in enumerate(theirs)])
        return {'share_of_greedy_texts_equal': float(equal)}

    return f'generate {NEW} tokens after 16 prompts of 64 with a 33.6M Llama on CPU', ways, facts


def mixed(folder: str) -> tuple[str, dict, Callable[[], dict], dict]:
    """Prompts and texts of many lengths."""
    models = write_model(folder, **SMALL)
    rng = np.random.default_rng(0)
    prompts = [rng.integers(1, VOCABULARY, n) for n in rng.integers(16, 129, flags.FLAGS.prompts)]
    budgets = np.minimum(8 + rng.exponential(32, len(prompts)), NEW).astype(int)
    buckets = (32, 48, 64, 80, 96, 112, 128)
    sizes = {'slots': 32, 'prefill_batch': 8, 'buckets': buckets, 'cache_lengths': (192, 256), 'steps': 16}
    sizes['refill'] = flags.FLAGS.refill
    first, ours = ({dtype: make_engine(folder, {}, dtype, **sizes) for dtype in models} for _ in range(2))
    asked = requests(prompts, 0.8, budgets)

    def theirs(number: int) -> int:
        for i in range(0, number, 32):
            group = prompts[i : i + 32]
            longest = max(map(len, group))
            padded = np.array([[0] * (longest - len(p)) + p.tolist() for p in group])
            mask = np.array([[0] * (longest - len(p)) + [1] * len(p) for p in group])
            generate(models['float32'], padded, int(budgets[i : i + 32].max()), mask, temperature=0.8)
        return int(budgets[:number].sum())

    def both(engines: Mapping, asked: list, number: int) -> dict[str, Callable[[], int]]:
        ways = {
            f'warmjax {dtype}, 32 slots': lambda engine=engine: count(answer(engine, asked))
            for dtype, engine in engines.items()
        }
        return ways | {'transformers float32, batches of 32': lambda: theirs(number)}

    ways = both(ours, asked, len(prompts))
    # Every bucket and cache length comes up in the first 96 prompts.
    warm = both(first, asked[:96], 32)
    what = f'generate 8 to {NEW} tokens after {len(prompts)} prompts of 16 to 128 with a 33.6M Llama on CPU'
    return what, ways, lambda: {'tokens': int(budgets.sum())} | dict(zip(OCCUPANCY, ours['float32'].occupancy)), warm


def arms(folder: str) -> tuple[str, dict, Callable[[], dict]]:
    """Six adapters at once, and one after the other."""
    write_model(folder, width=2048, mlp_dim=5632, num_layers=4)
    prompts = np.random.default_rng(0).integers(1, VOCABULARY, (4, 32))
    sizes = {'buckets': (32,), 'cache_lengths': (64,), 'steps': 32}
    adapters = make_adapters(folder, 6)
    together = make_engine(folder, adapters, 'bfloat16', slots=12, prefill_batch=12, **sizes)
    apart = {
        name: make_engine(folder, {name: adapters[name]}, 'bfloat16', slots=2, prefill_batch=2, **sizes)
        for name in adapters
    }
    of_arm = {name: requests(prompts, 0.0, [32] * len(prompts), name) for name in adapters}
    every = [request for asked in of_arm.values() for request in asked]
    ways = {
        'warmjax six arms in one pass': lambda: count(answer(together, every)),
        'a pass for each arm': lambda: sum(count(answer(apart[name], asked)) for name, asked in of_arm.items()),
    }

    def facts() -> dict:
        one = answer(together, every)
        six = {id: tokens for name, asked in of_arm.items() for id, tokens in answer(apart[name], asked).items()}
        return {'share_of_texts_equal': float(np.mean([one[id] == six[id] for id in six]))}

    return (
        'generate 32 tokens after 4 prompts of 32 for each of 6 adapters with a 222M Llama in bfloat16 on CPU',
        ways,
        facts,
    )


def prefix(folder: str) -> tuple[str, dict, Callable[[], dict]]:
    """Prompts that begin alike."""
    write_model(folder, **SMALL)
    prompts = np.random.default_rng(0).integers(1, VOCABULARY, (64, 128))
    prompts[:, :100] = prompts[0, :100]
    asked = requests(prompts, 0.0, [16] * len(prompts))
    sharing = [dataclasses.replace(request, prefix=100) for request in asked]
    ours = make_engine(
        folder, {}, 'float32', slots=16, prefill_batch=16, buckets=(32, 128), cache_lengths=(192,), steps=16
    )
    ways = {
        'warmjax beginning shared': lambda: count(answer(ours, sharing)),
        'warmjax whole prompts': lambda: count(answer(ours, asked)),
    }

    def facts() -> dict:
        shared, whole = answer(ours, sharing), answer(ours, asked)
        return {'share_of_texts_equal': float(np.mean([shared[id] == whole[id] for id in whole]))}

    what = 'generate 16 tokens after 64 prompts of 128, 100 of them shared, with a 33.6M Llama in float32 on CPU'
    return what, ways, facts


def make_engine(folder: str, adapters: Mapping, dtype: str, **sizes):
    """Loads the model and makes an engine without stop ids."""
    import jax.numpy as jnp

    from warmjax import sharding
    from warmjax.decode.engine import Engine, EngineSettings
    from warmjax.models import hf_load

    mesh = sharding.make_mesh(sharding.MeshSettings(1, 1, 1))
    settings = EngineSettings(**{'refill': 1} | sizes, cache_dtype='float32', prefixes=1, logprobs=None)
    return Engine(hf_load.load(folder, jnp.dtype(dtype), mesh), settings, (), adapters, mesh)


def make_adapters(folder: str, number: int) -> dict:
    """Draws adapters of rank 8 for all linear maps."""
    import jax.numpy as jnp

    from warmjax import sharding
    from warmjax.lora import adapters
    from warmjax.lora.placement import LoraSettings
    from warmjax.models import hf_load
    from warmjax.models.layers import LINEARS

    mesh = sharding.make_mesh(sharding.MeshSettings(1, 1, 1))
    model = hf_load.load(folder, jnp.float32, mesh)
    made = [
        adapters.init(model, LoraSettings(8, 16.0, False, 0.0, LINEARS, (), ()), seed, mesh) for seed in range(number)
    ]
    return {
        f'arm {i}': {name: {'a': pair['a'], 'b': 0.02 + pair['b']} for name, pair in adapter.items()}
        for i, adapter in enumerate(made)
    }


def requests(prompts, temperature: float, budgets=None, adapter: str | None = None) -> list:
    """Makes requests of prompts; without budgets, each text has NEW tokens."""
    from warmjax.decode.requests import Request, Sampling
    from warmjax.decode.sampling import row_key

    how = Sampling(temperature, top_k=0, top_p=1.0, min_p=0.0)
    budgets = [NEW] * len(prompts) if budgets is None else budgets
    prefix = '' if adapter is None else f'{adapter} '
    return [
        Request(f'{prefix}{i}', prompt.tolist(), row_key(0, str(i), 0), how, int(budget), adapter, 0)
        for i, (prompt, budget) in enumerate(zip(prompts, budgets, strict=True))
    ]


def answer(engine, asked: list) -> dict[str, list[int]]:
    """Returns the tokens of each request's text."""
    return {text.request.id: text.tokens for ended in engine.run(asked) for text in ended}


def count(texts: Mapping[str, list[int]]) -> int:
    return sum(map(len, texts.values()))


def transformers_way(model, prompts: np.ndarray, **options) -> Callable[[], int]:
    return lambda: generate(model, prompts, NEW, **options).shape[0] * NEW


def generate(model, prompts: np.ndarray, new: int, mask: np.ndarray | None = None, temperature=0.0, **options):
    """Generates exactly `new` tokens a row with transformers; returns prompts and texts."""
    import torch

    drawn = {'do_sample': True, 'temperature': temperature, 'top_k': 0, 'top_p': 1.0} if temperature else {}
    with torch.inference_mode():
        return model.generate(
            torch.tensor(prompts),
            attention_mask=torch.tensor(np.ones_like(prompts) if mask is None else mask),
            max_new_tokens=new,
            min_new_tokens=new,
            **({'do_sample': False} | drawn | options),
        ).numpy()


if __name__ == '__main__':
    app.run(main)
