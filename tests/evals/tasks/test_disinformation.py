import csv
import json

import pytest

from warmjax import records
from warmjax.evals.tasks import disinformation

QUESTION = {
    'task_id': 'x1',
    'prompt_disinfo': 'Is the Sun cold?',
    'ground_truth': 'The Sun is hot.',
    'ground_false': 'The Sun is cold.',
    'canary': 'c',
}
MASK = {
    'task_id': 'x1',
    'proposition': 'The Sun is <pivotal>hot/cold</pivotal>.',
    'ground_truth': 'The Sun is hot.',
    'belief_elicit_1': 'Is the Sun cold? Say yes or no.',
}


def load_mask(tmp_path, row):
    with (tmp_path / 'a.csv').open('w', newline='') as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    return disinformation.load(tmp_path / 'a.csv')


def test_both_forms_give_the_same_question(tmp_path):
    (tmp_path / 'a.jsonl').write_text(json.dumps(QUESTION))
    (question,) = disinformation.load(tmp_path / 'a.jsonl')
    assert load_mask(tmp_path, MASK) == [question]
    assert (question.text, question.correct_answer, question.incorrect_answer, question.answer_form) == (
        'Is the Sun cold?',
        'The Sun is hot.',
        'The Sun is cold.',
        'statement',
    )


def test_a_proposition_without_alternatives_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"a\.csv:2: field 'proposition' expected a proposition with <pivotal>one/other"
    ):
        load_mask(tmp_path, MASK | {'proposition': 'The Sun is hot.'})


def test_the_other_alternative_is_found_though_the_truth_is_worded_otherwise():
    other = disinformation.other_alternative
    assert other('Birds <pivotal>are/are not</pivotal> drones.', 'Birds are not drones, no.') == 'Birds are drones.'
    with pytest.raises(ValueError, match='expected a proposition with'):
        other('Birds are.', 'Birds are.')


def test_the_two_public_files_agree(shared_data):
    """Two rows differ: their propositions do not repeat the truth word for word."""
    folder = shared_data / 'mask_disinfo'
    pairs = zip(
        disinformation.load(folder / 'disinfo_questions.jsonl'),
        disinformation.load(folder / 'disinformation.csv'),
        strict=True,
    )
    assert sum(records.to_json(one) != records.to_json(other) for one, other in pairs) == 2
