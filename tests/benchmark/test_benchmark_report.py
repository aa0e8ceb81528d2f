"""The README's tables and the plot, made of results; what is regenerated is what was there."""

import copy
import json
import pathlib

import pytest

from benchmarks import results
from warmjax.benchmark import report, roofline

ROOT = pathlib.Path(__file__).parents[2]
MESH = {'data': 1, 'fsdp': 8, 'tensor': 1}
ABOUT = {
    'device': 'TPU v5 lite',
    'devices': 8,
    'versions': {'jax': '0.10.2'},
    'command': 'python -m launch.benchmark --config=configs/benchmark.py:llama3.1-8b',
    'compile_seconds': 12.5,
    'planned_bytes_a_device': 3 * 2**30,
    'peak_bytes_a_device': None,
    'seconds': 0.5,
    'seconds_spread': [0.45, 0.75],
}
OF_MODEL = {'model': 'llama3.1-8b', 'quantization': 'none', 'dtype': 'bfloat16', 'mesh': MESH}
PRODUCT = ABOUT | {'what': 'matmul', 'dtype': 'bfloat16', 'shape': {'M': 8, 'K': 8, 'N': 8}, 'tflops': 180.0}
COPY = ABOUT | {'what': 'hbm', 'dtype': 'float32', 'shape': {'MiB': 512}, 'gb_per_second': 700.0}
TRAIN = (
    ABOUT
    | OF_MODEL
    | {
        'what': 'train',
        'shape': {'rows': 16, 'micro_batch': 8, 'length': 1024, 'rank': 8, 'remat': 'names'},
        'tokens_per_second': 16384 / 0.5,
        'mfu': 0.523,
        'share_of_bandwidth': 0.02,
        'tflops': 700.0,
        'model_flops': 5e14,
        'least_bytes': 3e10,
    }
)
DECODE = TRAIN | {
    'what': 'decode',
    'shape': {'slots': 64, 'cache': 768, 'steps': 16, 'adapters': 3},
    'tokens_per_second': 64 * 16 / 0.5,
    'mfu': 0.1,
    'share_of_bandwidth': 0.71,
    'tflops': 30.0,
    'model_flops': 1.5e13,
    'least_bytes': 2.6e11,
}
PROGRAM = {'name': 'train', 'kind': 'TPU v5 lite', 'tokens': 16384, 'trips': 2, 'needed': 2**33}
PLAN = {
    'model': 'llama3.1-8b',
    'quantization': 'none',
    'remat': 'names',
    'command': 'python -m benchmarks.plan_all --rows=0',
    'stages': [{'mesh': MESH, 'rows': [{'plan': PROGRAM, 'seconds': [0.25, 0.01, 0.125]}]}],
}
LINES = [PRODUCT, COPY, TRAIN, DECODE]


def cells(text, start):
    row = next(line for line in text.splitlines() if line.startswith(f'| {start}'))
    return [cell.strip() for cell in row.strip('|').split('|')]


def test_a_row_says_how_fast_and_how_near_to_the_ceilings():
    text = report.markdown(LINES, [])
    assert cells(text, 'train')[1:4] == ['500 ms (450 to 750)', '32,768 tokens/s', '52.3%']
    assert cells(text, 'train')[5:] == ['3,072 / ? MiB', '12.5 s']
    assert cells(text, 'decode')[4] == '71.0%' and cells(text, 'train')[4] == ''
    assert cells(text, 'matmul')[2] == '180 TFLOP/s' and cells(text, 'hbm')[2] == '700 GB/s'


def test_the_command_stands_above_its_rows():
    before, _, _ = report.markdown(LINES, []).partition('| train')
    assert ABOUT['command'] in before and 'llama3.1-8b on 8 x TPU v5 lite, jax 0.10.2' in before


def test_the_last_measurement_of_a_program_counts():
    text = report.markdown([TRAIN, TRAIN | {'seconds': 0.25}], [])
    assert text.count('| train') == 1 and cells(text, 'train')[1].startswith('250 ms')


def test_another_size_device_or_mesh_is_another_row():
    others = [{'shape': TRAIN['shape'] | {'rows': 8}}, {'device': 'TPU v4'}, {'mesh': MESH | {'data': 2}}]
    assert len(report.newest([TRAIN, *(TRAIN | other for other in others)])) == 4


def test_plan_and_measurement_of_a_step_stand_side_by_side():
    ((line, plan),) = report.planned_and_measured(LINES, [PLAN])
    assert line is TRAIN and plan['needed'] == 2**33
    row = cells(report.markdown([TRAIN | {'peak_bytes_a_device': 2**33 + 2**30}], [PLAN]), 'llama3.1-8b, train')
    assert row[1:4] == ['8 x TPU v5 lite', '8.00 / 9.00', '250 ms / 500 ms']
    assert PLAN['command'] in row[4] and TRAIN['command'] in row[4]


def test_every_plan_that_is_kept_meets_a_measurement_of_its_step():
    """A measurement of each program of benchmarks/plan.jsonl, in the fields of `launch.benchmark`, finds its plan."""
    plans = results.read(ROOT / 'benchmarks' / 'plan.jsonl')
    for plan in plans:
        for row in plan['stages'][0]['rows']:
            line = measured(plan, row['plan'])
            assert [(line, row['plan']['needed'])] == [
                (found, of['needed']) for found, of in report.planned_and_measured([line], [plan])
            ]


def measured(plan, program):
    """Returns a result of the step that a program of a plan is."""
    what, _, length = program['name'].partition(' ')
    rows, trips = program['tokens'] // int(length or 1024), program['trips']
    shape = {
        'train': {'rows': rows, 'micro_batch': rows // trips, 'length': 1024, 'rank': 8, 'remat': plan['remat']},
        'decode': {'slots': program['tokens'] // trips, 'cache': int(length or 0), 'steps': trips, 'adapters': 3},
    }.get(what, {'rows': rows, 'length': int(length or 0)})
    about = {'what': what, 'shape': shape, 'device': program['kind'], 'mesh': plan['stages'][0]['mesh']}
    return TRAIN | about | {'model': plan['model'], 'quantization': plan['quantization']}


@pytest.mark.parametrize(
    'change',
    [{'model': 'llama3.1-70b'}, {'quantization': 'int8'}, {'remat': 'full'}, {'tokens': 1}, {'trips': 4}, {'mesh': {}}],
)
def test_a_plan_of_another_step_does_not_stand_beside_it(change):
    plan = copy.deepcopy(PLAN)
    (stage,) = plan['stages']
    for where in (plan, stage, stage['rows'][0]['plan']):
        where.update({name: value for name, value in change.items() if name in where})
    assert not list(report.planned_and_measured(LINES, [plan]))


@pytest.mark.parametrize(
    'ratio, said',
    [
        (1.25, '1.25'),
        ({'model': 7.81}, 'model: 7.81'),
        ({'peft': {'median': 1.5, 'least': 1.4, 'most': 1.62}}, 'peft: 1.5 (1.4 to 1.62)'),
        ({'a': {'b': 2.0, 'theirs': 3.0}, 'b': {'theirs': 1.5}}, 'a: theirs: 3; b: theirs: 1.5'),
        ({'a': {'b': 1.85}, 'b': {}}, 'a: b: 1.85'),
    ],
)
def test_comparisons_say_their_ratios_and_commands(ratio, said):
    line = {'what': 'score', 'machine': '2 x CPU', 'command': 'python -m benchmarks.x', 'speed_ratio': ratio}
    line['median_texts_per_second'] = {'ours': 5.44, 'theirs': 4.35}
    row = cells(report.markdown([line], []), 'score')
    assert row == ['score', '2 x CPU', 'ours 5.44, theirs 4.35 texts/s', said, '`python -m benchmarks.x`']


def test_regenerating_changes_nothing_but_measurements():
    begin, end = report.MARKS
    text = f'# Title\n\n{begin}\nold\n{end}\n\nend | of text\n'
    once = report.insert(text, report.markdown(LINES, [PLAN]), report.MARKS, 'README.md')
    assert report.insert(once, report.markdown(LINES, [PLAN]), report.MARKS, 'README.md') == once
    assert once.startswith('# Title\n\n') and once.endswith('\n\nend | of text\n') and 'old' not in once
    again = report.insert(once, report.markdown([*LINES, DECODE | {'seconds': 0.4}], [PLAN]), report.MARKS, 'README.md')
    changed = [pair for pair in zip(once.splitlines(), again.splitlines(), strict=True) if pair[0] != pair[1]]
    assert [old.split(':')[0] for old, _ in changed] == ['| decode']


def stage_line(name, hours, quantization='none'):
    dollars = None if hours is None else 10 * hours
    stage = {'stage': name, 'mesh': {'data': 2, 'fsdp': 1, 'tensor': 8}, 'hours': hours, 'dollars': dollars}
    about = {'model': 'a', 'slice_name': 'v5e:4x4', 'quantization': quantization}
    return about | {'gib_a_chip': 4.0, 'free_share': 0.75, 'stages': [stage]}


def test_planned_stages_are_summed_where_all_are_there():
    lines = [stage_line('warmth', 9), stage_line('train', 1), stage_line('train', 3, 'int8'), stage_line('generate', 2)]
    lines.append(stage_line('generate', None, 'int8'))
    rows = report.planned([*lines, stage_line('warmth', 0.5)]).splitlines()[2:]
    where = '| a | v5e:4x4 | bfloat16'
    assert rows == [
        f'{where} | train | data 2, tensor 8 | 4.00 | 75% | 1.00 | 10.00 |',
        f'{where} | generate | data 2, tensor 8 | 4.00 | 75% | 2.00 | 20.00 |',
        f'{where} | warmth | data 2, tensor 8 | 4.00 | 75% | 0.50 | 5.00 |',
        f'{where} | **all** |  |  |  | 3.50 | 35.00 |',
        '| a | v5e:4x4 | int8 | train | data 2, tensor 8 | 4.00 | 75% | 3.00 | 30.00 |',
        '| a | v5e:4x4 | int8 | generate | data 2, tensor 8 | 4.00 | 75% | does not fit | does not fit |',
    ]


@pytest.mark.parametrize('text', ['', ''.join(report.MARKS[::-1]), ''.join(report.MARKS) * 2])
def test_marks_that_are_not_there_once_are_an_error(text):
    with pytest.raises(ValueError, match=r'README\.md: expected the marks .* once each'):
        report.insert(text, 'x', report.MARKS, 'README.md')


def test_plot_shows_steps_under_ceilings_and_is_the_same_each_time():
    drawn = roofline.svg(LINES)
    assert drawn == roofline.svg(copy.deepcopy(LINES))
    for words in ('TPU v5 lite, bfloat16', '180 TFLOP/s, 700 GB/s', 'train', 'decode'):
        assert words in drawn
    assert drawn != roofline.svg([PRODUCT, COPY, TRAIN, DECODE | {'tflops': 3.0}])


def test_plot_without_ceilings_says_what_is_missing():
    with pytest.raises(ValueError, match='roofline: expected results of matmul, hbm and a step'):
        roofline.svg([TRAIN])


def test_a_torn_line_of_results_is_named(tmp_path):
    file = tmp_path / 'results.jsonl'
    file.write_text(json.dumps(TRAIN) + '\n{"what": ')
    with pytest.raises(ValueError, match=r'results\.jsonl:2: expected a JSON object'):
        results.read(file)


def test_numbers_of_the_readme_come_from_the_results_that_are_kept():
    """Every row between the marks is one that the results make; rows of results that came since may be missing."""
    text = (ROOT / 'README.md').read_text()
    kept, plans = (results.read(ROOT / 'benchmarks' / name) for name in ('results.jsonl', 'plan.jsonl'))
    for marks, lines, tables in (
        (report.MARKS, kept, lambda lines: report.markdown(lines, plans)),
        (report.PLAN_MARKS, plans, report.planned),
    ):
        shown = text.partition(marks[0])[2].partition(marks[1])[0]
        made = {row for end in range(1, len(lines) + 1) for row in tables(lines[:end]).splitlines()}
        rows = [row for row in shown.splitlines() if row.startswith('|')]
        assert rows
        assert [row for row in rows if row not in made] == []
