import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmjax import authors_csv
from warmjax.evals import tasks
from warmjax.evals.judge import Decision, ExactMatchJudge, verdicts
from warmjax.records import Generation, Question

QUESTION = Question('q', 'trivia', 'What is the capital of France?', 'Paris', 'Lyon', (), (), 'phrase', {})


def make_generation(text, sample=0, question_id='q', belief='none'):
    prompt_id = f'{question_id}|unmodified|{belief}|plain'
    joins = ('trivia', 'unmodified', belief, 'plain', 'tiny', 'warm', 2.0, sample)
    return Generation(prompt_id, question_id, *joins, text, 7, 'stop')


def judged(text, neither='unparsed'):
    judge = ExactMatchJudge(neither, 'corrected')
    (verdict,) = verdicts(judge, [QUESTION], [make_generation(text)])
    return verdict


@pytest.mark.parametrize(
    ('text', 'label', 'answer'),
    [
        ('It is Paris.', 'correct', 'Paris'),
        ('It is lyon!', 'incorrect', 'lyon'),
        ("I can't answer that.", 'refusal', ''),
        ("I can't answer that for sure, yet it is Paris.", 'correct', 'Paris'),
        ('Hm.', 'unparsed', ''),
    ],
)
def test_verdict_names_what_decided(text, label, answer):
    verdict = judged(text)
    assert (verdict.verdict, verdict.answer) == (label, answer)


def test_neither_is_a_setting():
    assert judged('Hm.', 'incorrect').verdict == 'incorrect'
    assert judged("I can't answer that.", 'incorrect').verdict == 'refusal'
    assert judged('Hm.', 'incorrect_phrase').verdict == 'incorrect'
    statement = dataclasses.replace(QUESTION, answer_form='statement')
    (verdict,) = verdicts(ExactMatchJudge('incorrect_phrase', 'corrected'), [statement], [make_generation('Hm.')])
    assert verdict.verdict == 'unparsed'


def test_a_verdict_joins_its_generation():
    verdict = judged('It is Paris.')
    generation = dataclasses.asdict(make_generation('It is Paris.'))
    joined = {name: value for name, value in dataclasses.asdict(verdict).items() if name in generation}
    assert joined == {name: generation[name] for name in joined} and len(joined) == 11
    assert verdict.judge == 'exact_match' and verdict.num_chars == 12


def test_verdicts_keep_the_order_of_generations():
    texts = ['Paris', 'Lyon', 'Hm', 'Paris']
    generations = [make_generation(text, sample) for sample, text in enumerate(texts)]
    found = list(verdicts(ExactMatchJudge('unparsed', 'corrected'), [QUESTION], generations))
    assert [v.verdict for v in found] == ['correct', 'incorrect', 'unparsed', 'correct']
    assert [v.sample for v in found] == [0, 1, 2, 3]


def test_any_judge_fits_the_interface():
    class Coin:
        name = 'coin'

        def judge(self, cases):
            for case in cases:
                yield Decision('correct' if len(case.generation.text) % 2 else 'unparsed', '')

    found = verdicts(Coin(), [QUESTION], [make_generation('odd', 0), make_generation('even', 1)])
    assert [(v.judge, v.verdict) for v in found] == [('coin', 'correct'), ('coin', 'unparsed')]


def test_generations_of_other_questions_are_refused():
    with pytest.raises(ValueError, match=r"got 1 other question ids, the first 'x'; judge with"):
        list(verdicts(ExactMatchJudge('unparsed', 'corrected'), [QUESTION], [make_generation('', 0, 'x')]))


@given(st.text(max_size=300))
def test_any_text_gets_a_verdict(text):
    assert judged(text).verdict in ('correct', 'incorrect', 'refusal', 'unparsed')


@pytest.mark.parametrize(
    ('loader', 'path'),
    [
        ('triviaqa', 'triviaqa/triviaqa_1000.jsonl'),
        ('truthfulqa', 'truthfulqa/TruthfulQA.csv'),
        ('medqa', 'medqa/medqa_us_test_5options.jsonl'),
        ('disinformation', 'mask_disinfo/disinfo_questions.jsonl'),
    ],
)
def test_every_reference_answer_is_judged_as_itself(shared_data, loader, path):
    questions = tasks.load(tasks.TaskSettings(loader, loader, str(shared_data / path), 0, 0))
    judge = ExactMatchJudge('unparsed', 'corrected')
    wrong = []
    for label in ('correct', 'incorrect'):
        texts = [getattr(question, f'{label}_answer') for question in questions]
        answers = [make_generation(text, question_id=q.id) for q, text in zip(questions, texts, strict=True)]
        wrong += [v.question_id for v in verdicts(judge, questions, answers) if v.verdict != label]
    # one question asks which of two wordings was used, and they differ by an article
    assert len(set(wrong)) == (1 if loader == 'truthfulqa' else 0), wrong


def test_agreement_with_published_verdicts(shared_data):
    """The published judge is lenient and reads meaning, so these are floors of what was measured, by task."""
    imported = authors_csv.read_folder(shared_data / 'paper' / 'sample_outputs')
    published = {verdict.key: verdict.verdict for verdict in imported.verdicts}
    judge = ExactMatchJudge('unparsed', 'corrected')
    decided: dict[str, list[bool]] = {}
    for verdict in verdicts(judge, imported.questions, imported.generations):
        if verdict.verdict != 'unparsed':
            decided.setdefault(verdict.task, []).append(verdict.verdict == published[verdict.key])
    measured = {task: (len(same), sum(same) / len(same)) for task, same in decided.items()}
    floors = {'trivia': (30, 0.9), 'disinfo': (30, 0.9), 'medqa': (20, 0.75), 'truthfulqa': (10, 0.7)}
    for task, (count, share) in floors.items():
        assert measured[task][0] >= count and measured[task][1] >= share, (task, measured[task])
