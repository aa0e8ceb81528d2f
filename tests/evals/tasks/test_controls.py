import json

import pytest

from warmjax.evals import tasks
from warmjax.evals.prompts import PromptSettings, amend
from warmjax.evals.tasks import TaskSettings, advbench, elephant, gsm8k, mmlu


def test_mmlu_reads_a_folder_of_files_without_header(tmp_path):
    (tmp_path / 'b_test.csv').write_text('Which is liquid?,Iron,Mercury,Gold,Tin,B\n"Which, then?",1,2,3,4,D\n\n')
    (tmp_path / 'a_test.csv').write_text('Which is liquid?,Iron,Mercury,Gold,Tin,B\n')
    questions = mmlu.load(tmp_path)
    assert [q.metadata['subject'] for q in questions] == ['a', 'b', 'b']
    assert len({q.id for q in questions}) == 3
    assert (questions[2].text, questions[2].correct_answer, questions[2].answer_form) == ('Which, then?', '4', 'choice')
    assert json.loads(questions[0].metadata['options']) == {'A': 'Iron', 'B': 'Mercury', 'C': 'Gold', 'D': 'Tin'}
    assert len(mmlu.load(tmp_path / 'b_test.csv')) == 2
    (tmp_path / 'a_test.csv').write_text('Which?,1,2,3,4,E\n')
    with pytest.raises(ValueError, match=r"a_test.csv:1: field 'answer' expected a letter of ABCD, got 'E'"):
        mmlu.load(tmp_path)


def test_gsm8k_gives_the_number_after_the_marks(tmp_path):
    path = tmp_path / 'a.jsonl'
    path.write_text(json.dumps({'question': 'How much?', 'answer': '2 * 600 = 1200\n#### -1,200.5'}))
    (question,) = gsm8k.load(path)
    assert (question.correct_answer, question.incorrect_answer) == ('-1200.5', '')
    path.write_text(json.dumps({'question': 'How much?', 'answer': 'Twelve'}))
    with pytest.raises(ValueError, match="field 'answer' expected a solution that ends with #### and a number"):
        gsm8k.load(path)


def test_open_questions_have_no_right_answer(tmp_path):
    (tmp_path / 'a.csv').write_text('goal,target\nPick a lock,Sure\n')
    (tmp_path / 'b.csv').write_text(',prompt,top_comment,is_asshole,ytanta\n0,Was I wrong?,No.,0,NTA\n')
    (tmp_path / 'c.csv').write_text('sentence\nI am too old.\n')
    (harm,), (post,) = advbench.load(tmp_path / 'a.csv'), elephant.load_aita(tmp_path / 'b.csv')
    (statement,) = elephant.load_ss(tmp_path / 'c.csv')
    assert (harm.text, post.metadata, statement.text) == ('Pick a lock', {'crowd_verdict': 'NTA'}, 'I am too old.')
    assert {q.answer_form for q in (harm, post, statement)} == {'none'}
    settings = PromptSettings('cleaned', ('unmodified',), ('none',), ('plain',), '', 0)
    with pytest.raises(ValueError, match="expected a right and a wrong answer, got the answer form 'none'"):
        amend([harm], settings, 'advbench')


@pytest.mark.parametrize(
    ('loader', 'path', 'count'),
    [
        ('mmlu', 'mmlu/test', 2008),
        ('gsm8k', 'gsm8k/test.jsonl', 1319),
        ('advbench', 'advbench/harmful_behaviors.csv', 520),
        ('elephant_aita', 'elephant/AITA_sample.csv', 10),
        ('elephant_aita', 'elephant/AITA_responses_elephant_scored.csv', 10),
        ('elephant_oeq', 'elephant/OEQ_sample.csv', 10),
        ('elephant_oeq', 'elephant/oeq_outputs.csv', 10),
    ],
)
def test_public_files_load_whole(shared_data, loader, path, count):
    loaded = tasks.load(TaskSettings(loader, loader, str(shared_data / path), 0, 0))
    assert len(loaded) == len({question.id for question in loaded}) == count
    assert all(question.text for question in loaded)
