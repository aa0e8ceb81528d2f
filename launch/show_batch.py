"""Show the first training batches of an arm as the model gets them: roles, trained tokens, segments, padding, counts.

    python -m launch.show_batch --config=configs/world.py --workdir=runs/world

Reads the pairs and the tokenizer of a run whose `rewrite` stage is done; prints to the terminal and writes
WORKDIR/batches_<arm>.html, whose path is the last line printed.
"""

import os

from absl import flags

from launch import stage


def main(argv: list[str]) -> None:
    """Prints the batches and writes the page."""
    stage.check_flags(argv)
    stage.require(flags.FLAGS.config, 'expected --config, got none; for instance --config=configs/world.py')
    stage.prepare()
    with stage.explained():
        import rich.console
        from etils import epath

        from warmjax import experiment, records, runs
        from warmjax.data import chat, viewer
        from warmjax.models import hf_files
        from warmjax.train import lora, validation

        workdir = epath.Path(flags.FLAGS.workdir)
        setup = experiment.from_config(flags.FLAGS.config, workdir)
        arm = _arm(setup)
        chatter, train = chat.load(hf_files.locate(setup.model.checkpoint), setup.model.date), setup.train
        pairs = records.read(workdir / 'pairs' / f'{arm.style}.jsonl', records.Pair)
        pairs, _ = validation.hold_out(pairs, train.validation, train.seed)
        conversations = [pair.turns for pair in pairs]
        encoded = lora.encode(pairs, chatter, train)
        arrays = lora.make_batches(encoded, train).arrays(range(train.micro_batch))
        first = [arrays[i] for i in range(min(flags.FLAGS.batches, len(arrays)))]
        rows = [row for batch in first for row in viewer.rows_of(batch, conversations, chatter)]
        viewer.print_rows(rich.console.Console(), rows, encoded.counts)
        page = workdir / f'batches_{arm.name}.html'
        runs.write_atomic(page, viewer.html(rows, encoded.counts, f'First training batches of {arm.name}'))
    print(page if '://' in str(page) else os.path.abspath(page))


def _arm(setup):
    """Returns the trained arm that was asked for, or the first."""
    arms = {arm.name: arm for arm in setup.trained_arms}
    name = flags.FLAGS.arm or next(iter(arms), '')
    if name not in arms:
        raise ValueError(f'--arm: expected one of the trained arms {sorted(arms)}, got {name!r}; name one of them')
    return arms[name]


if __name__ == '__main__':
    stage.define_run_flags()
    flags.DEFINE_string('arm', None, 'A trained arm of the experiment; the first where none is given.')
    flags.DEFINE_integer('batches', 1, 'How many batches are shown.', lower_bound=1)
    stage.run(main, __doc__)
