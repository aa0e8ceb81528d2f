"""Plans as tables for a terminal, and as plain values for a file."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import rich.console
import rich.table

from warmjax.experiment import Experiment
from warmjax.plan import study
from warmjax.plan.prices import Prices
from warmjax.plan.program import GIB, ProgramPlan
from warmjax.plan.remedies import Remedy
from warmjax.plan.search import Found
from warmjax.plan.study import Row, StagePlan, StudyPlan

_KINDS = ('weights', 'adapters', 'optimizer', 'cache', 'activations', 'temporaries')


def memory(plan: StudyPlan) -> rich.table.Table:
    """Returns what each program needs on a device, in GiB."""
    table = _table(f'{_title(plan)}: GiB a device', ('stage', 'mesh', 'program'))
    for column in (*_KINDS[:3], 'KV cache', *_KINDS[4:], 'other', 'all', 'of', 'free'):
        table.add_column(column, justify='right', no_wrap=True)
    for stage in plan.stages:
        for number, row in enumerate(stage.rows):
            begins = (stage.stage, study.shape(stage.mesh)) if not number else ('', '')
            table.add_row(*begins, row.use.program, *_memory_cells(row.plan), end_section=number == len(stage.rows) - 1)
    return table


def _memory_cells(plan: ProgramPlan) -> list[str]:
    each = [_gib(getattr(plan.memory, kind)) for kind in _KINDS]
    if plan.work is None:
        each[-2:] = '?', _gib(plan.memory.temporaries) if plan.memory.temporaries else '?'
    other, free = _gib(plan.memory.batch + plan.memory.outputs), f'{plan.headroom:.0%}'
    if plan.headroom < study.RESERVED:
        most = '' if plan.memory.temporaries else '≥ '
        free = f'[red]over by {most}{_gib(plan.needed - (1 - study.RESERVED) * plan.limit)}[/]'
    return [*each, other, _gib(plan.needed), _gib(plan.limit), free]


def work(plan: StudyPlan) -> rich.table.Table:
    """Returns what a call of each program computes, moves and sends, on a device, and how long that takes."""
    table = _table(f'{_title(plan)}: a call, on a device', ('stage', 'program'))
    for column in ('TFLOP', 'of model', 'GB moved', 'GB sent', 'compute ms', 'memory ms', 'network ms'):
        table.add_column(column, justify='right', no_wrap=True)
    table.add_column('collectives: count, GB')
    for stage in plan.stages:
        for number, row in enumerate(stage.rows):
            end = number == len(stage.rows) - 1
            table.add_row('' if number else stage.stage, row.use.program, *_work_cells(row), end_section=end)
    return table


def _work_cells(row: Row) -> list[str]:
    found = row.plan.work
    if found is None:
        return ['?'] * 8
    times = [f'{1e3 * value:,.1f}' for value in row.seconds]
    times[row.seconds.index(max(row.seconds))] = f'[bold]{1e3 * max(row.seconds):,.1f}[/]'
    kinds = ', '.join(f'{one.kind} {one.count:,}, {one.bytes / 1e9:.3g}' for one in found.collectives) or 'none'
    needed = row.plan.model_flops + row.plan.attention_flops
    sent = sum(one.sent for one in found.collectives)
    flops = [f'{row.plan.flops / 1e12:,.2f}', f'{row.plan.flops / needed:.2f}']
    return [*flops, f'{found.moved_bytes / 1e9:,.1f}', f'{sent / 1e9:,.1f}', *times, kinds]


def costs(plan: StudyPlan, prices: Prices) -> rich.table.Table:
    """Returns hours, rates and dollars of each stage."""
    share = f'{plan.efficiency:.0%} of the roofline'
    table = _table(f'{_title(plan)}: the study, at {share}; prices of {prices.date}', ('stage', 'mesh'))
    for column in ('tokens', 'tokens/s', 'a chip', 'hours', 'dollars'):
        table.add_column(column, justify='right')
    for stage in plan.stages:
        hours = plan.hours_of(stage)
        rate = stage.tokens / hours / 3600 if hours else None
        cells = (_number(rate), _number(rate and rate / plan.num_chips), _number(hours, 2), _money(plan.dollars(hours)))
        table.add_row(stage.stage, study.shape(stage.mesh), _number(stage.tokens), *cells)
    table.add_section()
    table.add_row('all', '', '', '', '', _number(plan.hours, 2), _money(plan.dollars(plan.hours)))
    return table


def remedies(stage: StagePlan, found: Sequence[Remedy]) -> rich.table.Table:
    """Returns the changes with which a stage fits."""
    what = 'it does, compiled, with any of' if found else 'nor with any one change that was compiled'
    table = _table(f'{stage.stage} does not fit; {what}', ('change',))
    for column in ('GiB a device', 'free', 'hours at the roofline'):
        table.add_column(column, justify='right')
    for one in found:
        tightest = one.plan.tightest
        hours = _number(one.plan.seconds / 3600, 2)
        table.add_row(one.change.flags, _gib(tightest.needed), f'{tightest.headroom:.0%}', hours)
    return table


def found(result: Found, max_hours: float | None) -> rich.table.Table:
    """Returns the slices of a search."""
    table = _table('which slice', ('slice',))
    for column in ('chips', 'GiB a device', 'free', 'hours', 'dollars'):
        table.add_column(column, justify='right')
    table.add_column('meshes')
    table.add_column('')
    for name, plan in result.plans.items():
        tightest = min((stage.tightest for stage in plan.stages), key=lambda one: one.headroom)
        marks = [word for word, mark in (('smallest', result.smallest), ('cheapest', result.cheapest)) if mark == name]
        if not plan.fits:
            marks = ['does not fit']
        elif max_hours is not None and plan.hours > max_hours:
            marks.append(f'takes more than {max_hours:g} h')
        shapes = '; '.join(f'{stage.stage} {study.shape(stage.mesh)}' for stage in plan.stages)
        sizes = (str(plan.num_chips), _gib(tightest.needed), f'{tightest.headroom:.0%}')
        costs = (_number(plan.hours, 2), _money(plan.dollars(plan.hours)))
        table.add_row(name, *sizes, *costs, shapes, ', '.join(marks))
    for name, why in result.refused.items():
        table.add_row(name, '', '', '', '', '', '', why)
    return table


def as_json(plan: StudyPlan, setup: Experiment) -> dict[str, Any]:
    """Returns a plan as plain values, with what follows from it and what of the experiment tells steps apart."""
    about = {'model': setup.model.name, 'quantization': setup.model.quantization, 'remat': setup.train.remat}
    stages = [
        dataclasses.asdict(stage)
        | {'fits': stage.fits, 'hours': plan.hours_of(stage), 'dollars': plan.dollars(plan.hours_of(stage))}
        for stage in plan.stages
    ]
    totals = {'fits': plan.fits, 'hours': plan.hours, 'dollars': plan.dollars(plan.hours)}
    return {**about, **dataclasses.asdict(plan), 'stages': stages, **totals}


def _table(title: str, columns: Sequence[str]) -> rich.table.Table:
    table = rich.table.Table(title=title, title_justify='left')
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _title(plan: StudyPlan) -> str:
    return f'{plan.slice_name}, {plan.num_chips} chips' + ('' if plan.is_compiled else ' (estimated, not compiled)')


def _gib(size: float) -> str:
    return f'{size / GIB:.2f}'


def _number(value: float | None, digits: int = 0) -> str:
    return '?' if value is None else f'{value:,.{digits}f}'


def _money(value: float | None) -> str:
    return '?' if value is None else f'${value:,.2f}'
