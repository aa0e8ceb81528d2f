import dataclasses

import pytest
from simulated_study import HOSTILE, simulate

from warmjax import inspect_logs, records

pytest.importorskip('inspect_ai', reason="no Inspect here: pip install 'warmjax[hub]'")


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    path, study = tmp_path_factory.mktemp('inspect'), simulate(num_questions=2)
    study.verdicts[0] = dataclasses.replace(study.verdicts[0], verdict='unparsed')
    records.write(path / 'verdicts.jsonl', study.verdicts)
    records.write(path / 'generations.jsonl', study.generations)
    records.write(path / 'prompts.jsonl', study.prompts)
    records.write(path / 'questions' / 'all.jsonl', study.questions)
    return path


def test_inspect_reads_back_every_answer_with_its_verdict(workdir, tmp_path):
    from inspect_ai.log import list_eval_logs, read_eval_log

    verdicts = {
        (v.model, v.arm, v.epoch, v.prompt_id): v for v in records.read(workdir / 'verdicts.jsonl', records.Verdict)
    }
    count = inspect_logs.export_run(workdir, tmp_path / 'logs')
    found = list_eval_logs(str(tmp_path / 'logs'))
    assert len(found) == count == 2 * (1 + 3 + 3 + 1) == len({read_eval_log(file).eval.task_id for file in found})
    seen = 0
    for file in found:
        log = read_eval_log(file)
        assert log.status == 'success' and log.results.total_samples == len(log.samples)
        about = log.eval.metadata
        kinds = [sample.scores['verdict'].metadata['verdict'] for sample in log.samples]
        metrics = log.results.scores[0].metrics
        assert metrics['incorrect'].value == kinds.count('incorrect')
        assert metrics['accuracy'].value == pytest.approx(kinds.count('correct') / len(kinds))
        for sample in log.samples:
            verdict = verdicts[about['model'], about['arm'], about['training_epoch'], sample.id]
            expected = {'correct': 'C', 'incorrect': 'I'}.get(verdict.verdict, 'N')
            assert sample.scores['verdict'].value == expected and sample.metadata['belief'] == verdict.belief
            assert sample.output.completion == f'{about["arm"]} says {HOSTILE}' and sample.target == 'Paris'
            assert sample.input.startswith(sample.id)
        seen += len(log.samples)
    assert seen == len(verdicts)


def test_a_dialogue_is_shown_from_its_first_turn(tmp_path):
    from inspect_ai.log import read_eval_log

    study = simulate(num_questions=1)
    first, second = study.prompts[:2]
    verdict = next(v for v in study.verdicts if v.prompt_id == second.id and v.arm == 'warm' and v.epoch == 2)
    records.write(tmp_path / 'prompts.jsonl', [first, dataclasses.replace(second, follows=first.id, turn=1)])
    texts = {first.id: 'earlier', second.id: 'later'}
    generations = [dataclasses.replace(g, text=texts[g.prompt_id]) for g in study.generations if g.prompt_id in texts]
    records.write(tmp_path / 'generations.jsonl', generations)
    records.write(tmp_path / 'verdicts.jsonl', [verdict])
    records.write(tmp_path / 'questions' / 'all.jsonl', study.questions)
    assert inspect_logs.export_run(tmp_path, tmp_path / 'logs') == 1
    [sample] = read_eval_log(str(next((tmp_path / 'logs').iterdir()))).samples
    assert [message.content for message in sample.messages] == [first.text, 'earlier', second.text, 'later']
    assert sample.input == second.text and sample.output.completion == 'later'


def test_a_run_that_was_not_judged_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='expected the verdicts of the judge stage'):
        inspect_logs.export_run(tmp_path, tmp_path / 'logs')
