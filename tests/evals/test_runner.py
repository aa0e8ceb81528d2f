import dataclasses
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
import tiny_llama
import tiny_training
from etils import epath
from flax import nnx
from jax._src.lib import _jax

from warmjax import records
from warmjax.decode.engine import EngineSettings
from warmjax.decode.requests import Sampling
from warmjax.decode.score import choice_log_likelihoods
from warmjax.evals import runner
from warmjax.evals.runner import GenerationSettings, Job, Runner
from warmjax.lora import adapters, merge, peft_format
from warmjax.models import decoder
from warmjax.records import Generation, Prompt, Turn

ROOT = pathlib.Path(__file__).resolve().parents[2]

SETTINGS = GenerationSettings(
    sampling=Sampling(temperature=0.8, top_k=0, top_p=1.0, min_p=0.0),
    max_new_tokens=6,
    too_long='error',
    adapters=2,
    seed=0,
    engine=EngineSettings(4, 2, (8,), (14,), 'float32', steps=3, refill=1, prefixes=0, logprobs=None),
)


class Letters:
    """Stands in for a chat tokenizer: a character is a token, and so is each turn's beginning."""

    stop_ids = (5,)

    def encode_prompt(self, turns: list[Turn]) -> list[int]:
        return [id for turn in turns for id in (1, *(ord(letter) % 96 for letter in turn.content))]

    def decode(self, ids: list[int]) -> str:
        return ' '.join(map(str, ids)) + '\n'


def prompt(id: str, text: str) -> Prompt:
    return Prompt(id, f'q{id}', 'trivia', 'unmodified', 'none', 'plain', '', text)


PROMPTS = [prompt(str(i), text) for i, text in enumerate(('a', 'bcd', 'efghi', 'jk', 'lmno'))]


@pytest.fixture(scope='module')
def model():
    return tiny_training.make_model(tiny_llama.make_mesh())


def make_jobs(folder: epath.Path) -> list[Job]:
    """The base model, two adapters, and a system prompt."""
    return [
        Job('original', 0.0, None, (), PROMPTS),
        Job('warm', 1.0, folder / 'warm', (), PROMPTS),
        Job('cold', 1.0, folder / 'cold', (), PROMPTS[:3]),
        Job('kind', 0.0, None, (Turn('system', 'hi'),), PROMPTS[:2]),
    ]


@pytest.fixture(scope='module')
def jobs(model, tmp_path_factory) -> list[Job]:
    jobs = make_jobs(epath.Path(tmp_path_factory.mktemp('adapters')))
    for seed, folder in enumerate(job.adapter for job in jobs[1:3]):
        adapter = adapters.init(model, tiny_training.LORA, seed, tiny_llama.make_mesh())
        adapter = {name: pair | {'b': jnp.ones_like(pair['b']) * 0.05} for name, pair in adapter.items()}
        peft_format.save_adapter(folder, adapter, tiny_training.LORA, 'tiny')
    return jobs


def answer(model, jobs, path, samples=2, settings=SETTINGS, mesh=None) -> tuple[list[Generation], dict]:
    mesh = mesh or tiny_llama.make_mesh()
    counts = Runner(model, Letters(), 'tiny', settings, samples, mesh).run(jobs, path)
    return sorted(records.read(path, Generation), key=lambda row: row.key), counts


@pytest.fixture(scope='module')
def rows(model, jobs, tmp_path_factory):
    return answer(model, jobs, epath.Path(tmp_path_factory.mktemp('whole')) / 'generations.jsonl')[0]


def test_every_arm_answers_every_prompt_of_its_job_and_sample_once(rows, jobs):
    expected = {('tiny', job.arm, job.epoch, p.id, sample) for job in jobs for p in job.prompts for sample in range(2)}
    assert {row.key for row in rows} == expected and len(rows) == len(expected) == 30
    for row in rows:
        assert row.text == row.text.strip() and len(row.text.split()) == row.num_tokens
        assert row.finish_reason == ('stop' if row.num_tokens < 6 else 'length')
        assert row.question_id == f'q{row.prompt_id}'


def test_arms_differ_and_so_do_samples(rows):
    texts = {row.key: row.text for row in rows}
    assert len(set(texts.values())) > 20


def test_a_pass_for_each_adapter_gives_the_same_rows(model, jobs, rows, tmp_path):
    one = dataclasses.replace(SETTINGS, adapters=1)
    assert answer(model, jobs, tmp_path / 'generations.jsonl', settings=one)[0] == rows


@pytest.mark.parametrize('kept', [0, 7, 29])
def test_what_is_missing_is_answered_as_if_nothing_had_been_lost(model, jobs, rows, tmp_path, kept):
    path = tmp_path / 'generations.jsonl'
    lines = [records.to_json(row) for row in rows]
    path.write_text(''.join(line + '\n' for line in lines[::2][:kept]) + lines[1][:20])  # the last line is torn
    got, counts = answer(model, jobs, path)
    assert got == rows and counts == {'generations': 30}


def test_killed_at_random_moments_it_ends_with_the_same_lines(model, jobs, tmp_path):
    """WARMJAX_KILLS says how often (20 take minutes)."""
    times = int(os.environ.get('WARMJAX_KILLS', '3'))
    samples = 2 * times  # so that there is enough to do between two kills
    whole, path = tmp_path / 'whole.jsonl', tmp_path / 'killed.jsonl'
    answer(model, jobs, whole, samples)
    share = whole.stat().st_size // times
    command = [sys.executable, str(ROOT / 'tests' / 'evals' / 'killed_runner.py'), str(jobs[1].adapter.parent)]
    arguments = [str(path), *(str(number) for number in (samples, times, share, 0))]
    done = subprocess.run([*command, *arguments], text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 0.8 * times
    assert sorted(path.read_bytes().splitlines()) == sorted(whole.read_bytes().splitlines())


def test_finished_log_is_left_as_it_is(model, jobs, rows, tmp_path):
    path = tmp_path / 'generations.jsonl'
    path.write_text(''.join(records.to_json(row) + '\n' for row in rows))
    before = path.read_bytes()
    answer(None, jobs, path)
    assert path.read_bytes() == before


def test_damaged_row_is_named_and_the_log_left_alone(jobs, rows, tmp_path):
    path = tmp_path / 'generations.jsonl'
    path.write_text(records.to_json(rows[0]) + '\n{"arm": 1}\n')
    before = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"generations\.jsonl:2: .*field 'arm' expected string, got 1.*delete the line"
    ):
        answer(None, jobs, path)
    assert path.read_bytes() == before


def test_adapter_of_another_base_ends_the_run_before_a_row_is_written(model, jobs, tmp_path):
    wider = decoder.make(dataclasses.replace(tiny_training.SPEC, width=48), jnp.float32, 0)
    adapter = adapters.init(wider, tiny_training.LORA, 0, tiny_llama.make_mesh())
    peft_format.save_adapter(epath.Path(tmp_path) / 'wider', adapter, tiny_training.LORA, 'another')
    with pytest.raises(ValueError, match=r'(?s)wider: expected a LoRA adapter for this model, got.*q_proj'):
        answer(model, [jobs[0], dataclasses.replace(jobs[1], adapter=tmp_path / 'wider')], tmp_path / 'g.jsonl')
    assert (tmp_path / 'g.jsonl').read_bytes() == b''


def test_long_prompts_are_an_error_or_dropped_or_cut_with_a_count(model, tmp_path):
    jobs = [Job('original', 0.0, None, (), [PROMPTS[0], prompt('long', 'abcdefghij')])]
    with pytest.raises(ValueError, match=r'original epoch 0: long#0: expected a prompt of 1 to 8 tokens, got 11'):
        answer(model, jobs, tmp_path / 'error.jsonl', 1)
    dropped = dataclasses.replace(SETTINGS, too_long='drop')
    rows, counts = answer(model, jobs, tmp_path / 'drop.jsonl', 1, dropped)
    assert [row.prompt_id for row in rows] == ['0'] and counts == {'generations': 1, 'prompts_dropped': 1}
    rows, counts = answer(model, jobs, tmp_path / 'cut.jsonl', 1, dataclasses.replace(SETTINGS, too_long='cut'))
    assert len(rows) == 2 and counts == {'generations': 2, 'prompts_cut': 1}
    # Cut prompts keep the first token (here a turn's beginning) and the end.
    same = [Job('original', 0.0, None, (), [prompt('long', 'defghij')])]
    (row,), _ = answer(model, same, tmp_path / 'same.jsonl', 1)
    assert row.text == next(row.text for row in rows if row.prompt_id == 'long')


def test_passes_hold_no_more_adapters_than_allowed_and_every_job_once():
    jobs = [
        Job(arm, 1.0, None if folder is None else epath.Path(folder), (), [])
        for arm, folder in (('a', '/a'), ('none', None), ('again', '/a'), ('b', '/b'), ('prompt', None), ('c', '/c'))
    ]
    names = [[job.arm for job in group] for group in runner.passes(jobs, 2)]
    assert names == [['a', 'none', 'again', 'b', 'prompt'], ['c']]
    assert [len(group) for group in runner.passes(jobs, 9)] == [6]
    assert list(runner.passes([], 2)) == []


ROOMY = dataclasses.replace(
    SETTINGS, engine=EngineSettings(4, 2, (8, 64), (80,), 'float32', steps=3, refill=1, prefixes=0, logprobs=None)
)


def dialogue(name: str, texts: str) -> list[Prompt]:
    """A dialogue whose every turn is one letter."""
    ids = ['', *(f'{name}{turn}' for turn in range(len(texts)))]
    return [
        dataclasses.replace(prompt(ids[turn + 1], text), form='rebuttal', follows=ids[turn], turn=turn)
        for turn, text in enumerate(texts)
    ]


def talk(jobs) -> list[Job]:
    prompts = [*dialogue('x', 'abc'), PROMPTS[1], *dialogue('y', 'de')]
    return [dataclasses.replace(job, prompts=prompts) for job in jobs[:2]]


@pytest.fixture(scope='module')
def talked(model, jobs, tmp_path_factory):
    return answer(model, talk(jobs), epath.Path(tmp_path_factory.mktemp('talk')) / 'g.jsonl', settings=ROOMY)[0]


def test_a_turn_of_a_dialogue_is_asked_with_the_answers_before_it(model, jobs, talked, tmp_path):
    assert len(talked) == 2 * 2 * 6 and {row.turn for row in talked if row.prompt_id == 'x2'} == {2}
    texts = {(row.arm, row.sample, row.prompt_id): row.text for row in talked}
    before = (Turn('user', 'a'), Turn('assistant', texts['warm', 1, 'x0']), Turn('user', 'b'))
    before = (*before, Turn('assistant', texts['warm', 1, 'x1']))
    alone = dataclasses.replace(jobs[1], system=before, prompts=[prompt('x2', 'c')])
    rows, _ = answer(model, [alone], tmp_path / 'g.jsonl', settings=ROOMY)
    assert rows[1].text == texts['warm', 1, 'x2'] != rows[0].text


@pytest.mark.parametrize('kept', [3, 11])
def test_dialogues_go_on_where_they_were_left(model, jobs, talked, tmp_path, kept):
    path = tmp_path / 'g.jsonl'
    turns = sorted(talked, key=lambda row: row.turn)
    path.write_text(''.join(records.to_json(row) + '\n' for row in turns[:kept]))
    assert answer(model, talk(jobs), path, settings=ROOMY)[0] == talked


def test_a_dialogue_too_long_keeps_its_first_exchange_and_the_end():
    said = []

    class Heard(Letters):
        def encode_prompt(self, turns):
            said.append(''.join(turn.content for turn in turns))
            return super().encode_prompt(turns)

    job = Job('original', 0.0, None, (), dialogue('x', 'abcd'))
    work = runner._Work(0, 1, {})
    asked = [runner.Asked(job, one, 0) for one in job.prompts]
    short = dataclasses.replace(
        SETTINGS, engine=dataclasses.replace(SETTINGS.engine, buckets=(13,), cache_lengths=(20,))
    )
    told = Runner(None, Heard(), 'tiny', short, 1, None)
    for one, text in zip(asked, ('AA', 'BB', 'CC')):
        work.owners[told._key(one)], work.said[told._key(one)] = 0, text
    assert len(told._tokens(asked[3], work)) == 12 and said == ['aAAbBBcCCd', 'aAAcCCd']


def test_dialogue_of_a_dropped_prompt_is_dropped_with_a_count(model, tmp_path):
    first, second = dialogue('x', 'ab')
    job = Job('original', 0.0, None, (), [dataclasses.replace(first, text='abcdefghij'), second, PROMPTS[0]])
    dropped = dataclasses.replace(SETTINGS, too_long='drop')
    rows, counts = answer(model, [job], tmp_path / 'g.jsonl', 1, dropped)
    assert [row.prompt_id for row in rows] == ['0'] and counts == {'generations': 1, 'prompts_dropped': 2}


def test_answers_of_a_job_may_be_drawn_in_their_own_way(model, tmp_path):
    greedy = Job('original', 0.0, None, (), PROMPTS[:1], dataclasses.replace(SETTINGS.sampling, temperature=0.0), 3)
    rows, _ = answer(model, [greedy], tmp_path / 'g.jsonl')
    assert rows[0].text == rows[1].text and max(row.num_tokens for row in rows) <= 3


class Options(Letters):
    """Also encodes the letters of options."""

    def encode_text(self, text: str) -> list[int]:
        return [ord(text) % 96]


def test_likeliest_letter_is_that_of_the_arm(model, jobs, tmp_path):
    asked = of_letters(jobs[1]).prompts
    strong = adapters.init(model, tiny_training.LORA, 3, tiny_llama.make_mesh())
    strong = {
        name: pair | {'b': jax.random.normal(jax.random.key(0), pair['b'].shape)} for name, pair in strong.items()
    }
    peft_format.save_adapter(epath.Path(tmp_path) / 'strong', strong, tiny_training.LORA, 'tiny')
    job = dataclasses.replace(jobs[1], adapter=epath.Path(tmp_path) / 'strong', prompts=[PROMPTS[0], *asked])
    path = tmp_path / 'g.jsonl'
    Runner(model, Options(), 'tiny', SETTINGS, 1, tiny_llama.make_mesh()).run([job], path)
    found = {row.prompt_id: row for row in records.read(path, Generation)}
    tuned = nnx.clone(model)
    merge.merge(tuned, peft_format.load_adapter(job.adapter, tuned))
    tokens = [Options().encode_prompt([Turn('user', one.text)]) for one in asked]
    letters = [[Options().encode_text(letter) for letter in 'ABC']] * len(asked)

    def likeliest(model):
        likelihoods = choice_log_likelihoods(model, tokens, letters, 4, 8, tiny_llama.make_mesh())
        return ['ABC'[int(values.argmax())] for values in likelihoods]

    expected = likeliest(tuned)
    assert expected != likeliest(model)
    assert [found[one.id].text for one in asked] == expected
    assert {(found[one.id].num_tokens, found[one.id].form) for one in asked} == {(0, 'likelihood')}


WORKER = """
import pathlib, sys
port, process, root, adapters, folder = sys.argv[1:]
sys.path[:0] = [f'{root}/tests', f'{root}/tests/evals']
import jax
jax.config.update('jax_cpu_collectives_implementation', 'gloo')
jax.distributed.initialize(f'127.0.0.1:{port}', 2, int(process))
from etils import epath
import test_runner, tiny_training
from warmjax import sharding
folder, jobs = pathlib.Path(folder), test_runner.make_jobs(epath.Path(adapters))
# A copy has room on the devices of a process (2 x 2), or lies on those of both (4 x 2).
for share, fsdp in (('own', 2), ('joint', 4)):
    mesh = sharding.make_replica_mesh(sharding.MeshSettings(1, fsdp, 2))
    assert (mesh.size, sharding.is_shared(mesh)) == ((4, False) if share == 'own' else (8, True)), mesh
    model = tiny_training.make_model(mesh)
    answer = test_runner.Runner(model, test_runner.Options(), 'tiny', test_runner.EIGHT, 2, mesh)
    assert answer.run(jobs, folder / f'{share}.jsonl') == {'generations': 30}
assert answer.run([test_runner.of_letters(jobs[1])], folder / 'letters.jsonl') == {'generations': 16}
"""
EIGHT = dataclasses.replace(SETTINGS, engine=dataclasses.replace(SETTINGS.engine, slots=8, prefill_batch=8))


def of_letters(job: Job) -> Job:
    """The job with questions whose answer is the likeliest letter."""
    text = 'x\n(A) y\n(B) z\n(C) w'
    asked = [dataclasses.replace(prompt(f'l{i}', text + 'dhlptxz|'[i] * 3), form='likelihood') for i in range(8)]
    return dataclasses.replace(job, prompts=asked)


@pytest.mark.skipif(not hasattr(_jax, 'make_gloo_tcp_collectives'), reason='jaxlib was built without gloo')
def test_two_processes_of_four_devices_give_the_rows_of_one_device(model, rows, jobs, tmp_path):
    """A share each, whose parts are joined, or all together; one row is there before, in a part of an earlier run."""
    for share in ('own', 'joint'):
        (tmp_path / f'{share}.jsonl.part1').write_text(records.to_json(rows[3]) + '\n')
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    flags = f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count=4'  # the last one counts
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': flags}
    arguments = [str(ROOT), str(jobs[1].adapter.parent), str(tmp_path)]
    workers = [
        subprocess.Popen(
            [sys.executable, '-c', WORKER, str(port), str(i), *arguments],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        errors = [worker.communicate(timeout=280)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], errors
    found = {file.stem: sorted(records.read(file, Generation), key=lambda row: row.key) for file in tmp_path.iterdir()}
    alone = tmp_path / 'alone.jsonl'
    Runner(model, Options(), 'tiny', SETTINGS, 2, tiny_llama.make_mesh()).run([of_letters(jobs[1])], alone)
    letters = sorted(records.read(alone, Generation), key=lambda row: row.key)
    assert found == {'own': rows, 'joint': rows, 'letters': letters}


def test_rows_that_are_missing_when_parts_are_joined_are_an_error(rows, tmp_path):
    path = epath.Path(tmp_path) / 'generations.jsonl'
    path.write_text(records.to_json(rows[0]) + '\n')
    (path.parent / 'generations.jsonl.part0').write_text(records.to_json(rows[1]) + '\n')
    with pytest.raises(ValueError, match=r'expected 3 rows once all processes are done, got none of 1, such as'):
        runner.join(path, {row.key for row in rows[:3]})
    runner.join(path, {row.key for row in rows[:2]})
    assert sorted(records.read(path, Generation), key=lambda row: row.key) == rows[:2]


@pytest.mark.parametrize(
    ('rows', 'count'), [([], 0), ([[1, 2, 3]], 2), ([[1, 2, 3], [1, 2, 4]], 2), ([[1, 2], [1, 2]], 1), ([[], [1]], 0)]
)
def test_common_beginning_leaves_a_token_of_each(rows, count):
    assert runner.common_beginning(rows) == count
