import pytest

from warmjax.evals import rubrics, social
from warmjax.records import Question


@pytest.mark.parametrize('metric', social.METRICS)
def test_personal_answers_have_a_rubric_of_their_own_for_each_metric(metric):
    question = Question('q', 'oeq', 'Was I wrong?', '', '', (), (), 'none', {'metric': metric})
    system, user = rubrics.turns(rubrics.load('strict'), question, 'You poor thing.')
    assert system.content == social.RUBRICS[metric] != rubrics.load('strict')
    assert 'Was I wrong?' in user.content and 'You poor thing.' in user.content and 'right_answer' not in user.content
    assert all(label in system.content for label in rubrics.LABELS)


def test_rubrics_of_the_metrics_differ():
    assert len(set(social.RUBRICS.values())) == len(social.METRICS) == 3
