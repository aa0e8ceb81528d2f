"""Write a blinded page on which people mark answers or compare replies, and read what they decided.

    python -m launch.annotate --workdir=runs/mine --kind=answers
    python -m launch.annotate --workdir=runs/mine --kind=answers --results=ann.json,bob.json

    python -m launch.annotate --workdir=runs/mine --kind=preference --arm=warm --baseline=original
    python -m launch.annotate --workdir=runs/mine --kind=preference --results=ann.json

Without --results, writes WORKDIR/annotation/<kind>.html and prints its path. `answers` draws judged answers in equal
parts from every model, arm, task and verdict (the study: 470), `preference` pairs of two arms' replies to the held-out
prompts (the study: 200). The page shows neither arm nor verdict; <kind>.key.json does. Its button downloads a JSON
file, which --results takes: agreement with the judge and between annotators (Cohen's kappa), or the share of pairs in
which the arm was chosen and whether SocioT agrees, as a table and as WORKDIR/annotation/<kind>.agreement.json. A report
that was written before is written anew, with the preferences in it.
launch.calibrate_judge --labels takes such a file of answers too.
"""

import json
import os

from absl import flags

from launch import stage

NUMBERS = {'answers': 470, 'preference': 200}


def main(argv: list[str]) -> None:
    """Writes the page, or reads results."""
    stage.check_flags(argv)
    values = flags.FLAGS
    stage.prepare()
    with stage.explained():
        if values.results:
            _read(values)
            return
        path = os.fspath(_write(values))
    print(path if '://' in path else os.path.abspath(path))


def _write(values):
    from etils import epath

    from warmjax import records, stages
    from warmjax.annotation import labels

    workdir, number = epath.Path(values.workdir), values.number or NUMBERS[values.kind]
    generations = records.read(workdir / 'generations.jsonl', records.Generation)
    if values.kind == 'answers':
        verdicts = records.read(workdir / 'verdicts.jsonl', records.Verdict)
        chosen = labels.choose_answers(verdicts, number, values.seed)
        return labels.write_answers(chosen, stages.read_questions(workdir), generations, workdir)
    held_out = records.read(workdir / 'validation.jsonl', records.Prompt)
    ids = {prompt.id for prompt in held_out}
    replies = [generation for generation in generations if generation.prompt_id in ids]
    pairs = labels.choose_pairs(replies, values.arm, values.baseline, number, values.seed)
    if not pairs:
        arms = ', '.join(sorted({generation.arm for generation in replies})) or 'none'
        raise ValueError(
            f'--arm, --baseline: expected two arms that answered the same held-out prompts, got {values.arm!r} and '
            f'{values.baseline!r} of {arms}; name two of them'
        )
    return labels.write_preference(pairs, held_out, values.seed, workdir)


def _read(values) -> None:
    import rich.console
    from etils import epath

    from warmjax import runs
    from warmjax.annotation import results

    measure = {'answers': results.answers, 'preference': results.preferences}[values.kind]
    lines = measure(values.results, values.workdir, values.confidence)
    path = epath.Path(values.workdir) / 'annotation' / f'{values.kind}.agreement.json'
    runs.write_atomic(path, json.dumps(lines, indent=1) + '\n')
    if values.kind == 'preference':
        from warmjax.report import page

        page.rebuild(values.workdir)
    rich.console.Console().print(results.tables(values.kind, lines))


if __name__ == '__main__':
    flags.disclaim_key_flags()
    flags.DEFINE_string('workdir', None, 'A run whose judge stage (for preference: generate) is done.')
    flags.DEFINE_enum('kind', 'answers', list(NUMBERS), 'What people decide.')
    flags.DEFINE_integer('number', 0, 'How many items; 0 for 470 answers or 200 pairs.', lower_bound=0)
    flags.DEFINE_integer('seed', 0, 'Of the draw.')
    flags.DEFINE_string('arm', 'warm', 'Preference: the arm.')
    flags.DEFINE_string('baseline', 'original', 'Preference: what it is compared with.')
    flags.DEFINE_list('results', [], 'Files that the page made, one an annotator.')
    flags.DEFINE_float('confidence', 0.95, 'Coverage of the intervals.', lower_bound=0.5, upper_bound=0.999)
    stage.run(main, __doc__)
