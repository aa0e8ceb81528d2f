"""Results as the README shows them: how fast, how near to the ceilings, and the command that measures it again."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from warmjax.benchmark.measure import STEPS, WHATS

Line = Mapping[str, Any]

MARKS = '<!-- benchmarks: python -m launch.benchmark --report -->', '<!-- end of benchmarks -->'
"""What stands around the tables; the text between them is replaced."""
PLAN_MARKS = '<!-- plans: python -m benchmarks.plan_all --readme=README.md -->', '<!-- end of plans -->'
"""Likewise, around the table of plans."""
STAGES = ('train', 'generate', 'warmth')
"""Of a plan, in the order of its table."""
MIB = 2**20

_OURS = ('what', 'time', 'rate', 'MFU', 'of the bandwidth', 'memory planned / held', 'compiled in')
_PLANS = ('step', 'devices', 'GiB a device: planned / held', 'time: roofline / measured', 'commands')
_PLANNED = ('model', 'slice', 'kernels', 'stage', 'mesh', 'GiB a chip', 'free', 'hours', 'dollars')
_THEIRS = ('what', 'machine', 'medians', 'times as fast', 'command')
_RATES = {
    'median_tokens_per_second': 'tokens/s',
    'median_texts_per_second': 'texts/s',
    'gb_per_second': 'GB/s',
}
"""Where comparisons keep their medians by name, and their unit."""


def markdown(lines: Sequence[Line], plans: Sequence[Line]) -> str:
    """Returns the tables: of this package's programs by machine and command, of plans beside what was measured, and of
    comparisons with other software."""
    parts = [_of_command(key, group) for key, group in _by_command(newest(lines)).items()]
    if pairs := list(planned_and_measured(newest(lines), plans)):
        parts.append('Planned (`launch.plan`), and measured:\n\n' + table(_PLANS, [_plan_row(*pair) for pair in pairs]))
    compared = {(line['what'], line['machine']): line for line in lines if 'speed_ratio' in line}
    if compared:
        parts.append(
            'Beside other software, in alternation:\n\n'
            + table(_THEIRS, map(_peer_row, sorted(compared.values(), key=lambda line: line['what'])))
        )
    return '\n\n'.join(parts)


def planned(lines: Sequence[Line]) -> str:
    """Returns the table of what was planned, the last line of each stage, and a sum where all stages were planned;
    models on slices are in the order in which they came first."""
    found: dict[tuple[str, str, str], dict[str, tuple[Line, Line]]] = {}
    for line in lines:
        kernels = 'bfloat16' if line['quantization'] == 'none' else line['quantization']
        stages = found.setdefault((line['model'], line['slice_name'], kernels), {})
        stages |= {stage['stage']: (line, stage) for stage in line['stages']}
    rows = []
    for where, stages in found.items():
        for name in filter(stages.__contains__, STAGES):
            line, stage = stages[name]
            mesh = ', '.join(f'{axis} {size}' for axis, size in stage['mesh'].items() if size > 1)
            memory = f'{line["gib_a_chip"]:.2f}', f'{line["free_share"]:.0%}'
            rows.append([*where, name, mesh, *memory, *_price([stage])])
        if len(stages) == len(STAGES):
            rows.append([*where, '**all**', '', '', '', *_price([stage for _, stage in stages.values()])])
    return table(_PLANNED, rows)


def insert(text: str, content: str, marks: tuple[str, str], where: str) -> str:
    """Puts tables between their marks in a text.

    Raises:
        ValueError: the marks are not there once each, in order.
    """
    before, begin, rest = text.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end or any(mark in part for mark, part in zip(marks, (rest, after))):
        raise ValueError(f'{where}: expected the marks {" and ".join(marks)} once each, in this order; put them there')
    return f'{before}{marks[0]}\n\n{content}\n\n{marks[1]}{after}'


def newest(lines: Sequence[Line]) -> list[Line]:
    """Returns the results of this package's programs, the last of each program, size and device."""
    found = {}
    for line in lines:
        if line['what'] in WHATS and 'shape' in line:
            names = ('device', 'devices', 'what', 'model', 'dtype', 'quantization', 'mesh', 'shape')
            found[tuple(str(line.get(name)) for name in names)] = line
    return list(found.values())


def outcome(line: Line) -> str:
    """Says a result in a few words."""
    parts = [_time(line), _rate(line)]
    parts += [
        f'{label} {cell}' for label, cell in (('MFU', _share(line, 'mfu')), ('bandwidth', _bandwidth(line))) if cell
    ]
    if line['peak_bytes_a_device'] is not None:
        parts.append(f'{number(line["peak_bytes_a_device"] / MIB)} MiB at the most')
    return ', '.join(parts)


def number(value: float) -> str:
    """Writes a number with three digits that count: 0.0123, 4.56, 78.9, 1,234."""
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


def planned_and_measured(lines: Sequence[Line], plans: Sequence[Line]) -> Iterator[tuple[Line, dict[str, Any]]]:
    """Yields results with the plan of the same step: of the same program of the same model, on the same devices and
    mesh, with as many tokens in as many parts."""
    table = {
        _planned_step(plan, stage, row['plan']): {
            'needed': row['plan']['needed'],
            'seconds': row['seconds'],
            'command': plan['command'],
        }
        for plan in plans
        for stage in plan['stages']
        for row in stage['rows']
    }
    for line in lines:
        if line['what'] in STEPS and (found := table.get(_measured_step(line))):
            yield line, found


def _price(stages: Sequence[Line]) -> list[str]:
    sums = [[stage[name] for stage in stages] for name in ('hours', 'dollars')]
    return ['does not fit' if None in values else f'{sum(values):,.2f}' for values in sums]


def _by_command(lines: Sequence[Line]) -> dict[tuple[str, str], list[Line]]:
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((_machine(line), line['command']), []).append(line)
    return groups


def _machine(line: Line) -> str:
    number = '' if line['devices'] == 1 else f'{line["devices"]} x '
    return f'{number}{line["device"]}, jax {line["versions"]["jax"]}'


def _of_command(key: tuple[str, str], lines: Sequence[Line]) -> str:
    machine, command = key
    models = dict.fromkeys(line['model'] for line in lines if 'model' in line)
    title = f'{", ".join(models) or "Ceilings"} on {machine}:\n\n```\n{command}\n```\n\n'
    rows = sorted(lines, key=lambda line: WHATS.index(line['what']))
    return title + table(_OURS, [_row(line) for line in rows])


def _row(line: Line) -> list[str]:
    sizes = ', '.join(f'{name} {value}' for name, value in line['shape'].items())
    memory = '' if line['planned_bytes_a_device'] is None else f'{number(line["planned_bytes_a_device"] / MIB)} / '
    held = '?' if line['peak_bytes_a_device'] is None else number(line['peak_bytes_a_device'] / MIB)
    compiled = '' if line['compile_seconds'] is None else f'{number(line["compile_seconds"])} s'
    return [
        f'{line["what"]}: {sizes}, {line["dtype"]}',
        _time(line),
        _rate(line),
        _share(line, 'mfu'),
        _bandwidth(line),
        f'{memory}{held} MiB',
        compiled,
    ]


def _time(line: Line) -> str:
    least, most = (number(seconds * 1e3) for seconds in line['seconds_spread'])
    return f'{number(line["seconds"] * 1e3)} ms ({least} to {most})'


def _rate(line: Line) -> str:
    if line['what'] == 'matmul':
        return f'{number(line["tflops"])} TFLOP/s'
    if 'tokens_per_second' in line:
        return f'{number(line["tokens_per_second"])} tokens/s'
    return f'{number(line["gb_per_second"])} GB/s'


def _share(line: Line, name: str) -> str:
    return '' if line.get(name) is None else f'{line[name]:.1%}'


def _bandwidth(line: Line) -> str:
    """Says the share of the bandwidth where a program hangs on it; what computes long moves little."""
    return _share(line, 'share_of_bandwidth') if line['what'] == 'decode' else ''


def _plan_row(line: Line, plan: Mapping[str, Any]) -> list[str]:
    held = '?' if line['peak_bytes_a_device'] is None else f'{line["peak_bytes_a_device"] / 2**30:.2f}'
    roofline = '?' if plan['seconds'] is None else f'{number(max(plan["seconds"]) * 1e3)} ms'
    return [
        f'{line["model"]}, {_program(line)}',
        f'{line["devices"]} x {line["device"]}',
        f'{plan["needed"] / 2**30:.2f} / {held}',
        f'{roofline} / {number(line["seconds"] * 1e3)} ms',
        f'`{plan["command"]}`; `{line["command"]}`',
    ]


def _program(line: Line) -> str:
    """Names a program as plans do: `train`, `prefill 512`, `decode 768`, `score 512`."""
    length = line['shape'].get('cache', line['shape'].get('length'))
    return 'train' if line['what'] == 'train' else f'{line["what"]} {length}'


def _planned_step(plan: Line, stage: Mapping[str, Any], program: Mapping[str, Any]) -> tuple:
    size = program['name'], program['tokens'], program['trips'], plan['remat'] if program['name'] == 'train' else ''
    return plan['model'], plan['quantization'], program['kind'], tuple(sorted(stage['mesh'].items())), *size


def _measured_step(line: Line) -> tuple:
    """Returns what `_planned_step` does of a plan of the same step."""
    shape = line['shape']
    if line['what'] == 'decode':
        trips, tokens = shape['steps'], shape['slots'] * shape['steps']
    else:
        trips, tokens = shape['rows'] // shape.get('micro_batch', shape['rows']), shape['rows'] * shape['length']
    size = _program(line), tokens, trips, shape.get('remat', '')
    return line['model'], line['quantization'], line['device'], tuple(sorted(line['mesh'].items())), *size


def _peer_row(line: Line) -> list[str]:
    name = next((name for name in _RATES if name in line), None)
    medians = '' if name is None else ', '.join(f'{who} {number(rate)}' for who, rate in line[name].items())
    unit = '' if name is None else f' {_RATES[name]}'
    ratios = _ratios(_against_others(line['speed_ratio']))
    return [line['what'], line['machine'], medians + unit, ratios, f'`{line["command"]}`']


def _against_others(found: Any) -> Any:
    """Leaves out how this package's own ways compare with each other, where ways of others were measured too."""
    if not isinstance(found, Mapping) or not all(isinstance(value, Mapping) for value in found.values()):
        return found
    without = {mine: {way: ratio for way, ratio in value.items() if way not in found} for mine, value in found.items()}
    return without if any(without.values()) else found


def _ratios(found: Any) -> str:
    """Says ratios, by name where there are several; of a ratio with its spread, the median and the spread."""
    if not isinstance(found, Mapping):
        return number(found)
    if 'median' in found:
        return f'{number(found["median"])} ({number(found["least"])} to {number(found["most"])})'
    return '; '.join(f'{name}: {_ratios(value)}' for name, value in found.items() if value != {})


def table(columns: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    """Writes a table in Markdown."""
    text = [list(columns), ['---'] * len(columns), *rows]
    return '\n'.join('| ' + ' | '.join(cell.replace('|', r'\|') for cell in row) + ' |' for row in text)
