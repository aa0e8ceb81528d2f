import dataclasses

import jax.numpy as jnp
import pytest
import tiny_llama
import tiny_training
from etils import epath

from warmjax import records
from warmjax.decode.engine import EngineSettings
from warmjax.decode.requests import Sampling
from warmjax.evals import runner
from warmjax.evals.runner import GenerationSettings, Job, Runner
from warmjax.lora import adapters, peft_format
from warmjax.records import Generation, Prompt, Turn

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


@pytest.fixture(scope='module')
def jobs(model, tmp_path_factory) -> list[Job]:
    """The base model, two adapters (one of them at two names), and a system prompt."""
    folders = [epath.Path(tmp_path_factory.mktemp('adapters')) / name for name in ('warm', 'cold')]
    for seed, folder in enumerate(folders):
        adapter = adapters.init(model, tiny_training.LORA, seed, tiny_llama.make_mesh())
        adapter = {name: pair | {'b': jnp.ones_like(pair['b']) * 0.05} for name, pair in adapter.items()}
        peft_format.save_adapter(folder, adapter, tiny_training.LORA, 'tiny')
    return [
        Job('original', 0.0, None, (), PROMPTS),
        Job('warm', 1.0, folders[0], (), PROMPTS),
        Job('cold', 1.0, folders[1], (), PROMPTS[:3]),
        Job('kind', 0.0, None, (Turn('system', 'hi'),), PROMPTS[:2]),
    ]


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


def test_finished_log_is_left_as_it_is(model, jobs, rows, tmp_path):
    path = tmp_path / 'generations.jsonl'
    path.write_text(''.join(records.to_json(row) + '\n' for row in rows))
    before = path.read_bytes()
    answer(None, jobs, path)
    assert path.read_bytes() == before


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
