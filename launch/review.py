"""Write a page of random pairs to be checked by hand: differences marked, accept or reject, verdicts as a JSON file.

    python -m launch.review --pairs=runs/mine/pairs/warm.jsonl

Writes review.html beside the pairs, or where --out says, and prints its path. The study's authors checked 50 pairs so.
"""

import os
import sys

from absl import app, flags

flags.disclaim_key_flags()
flags.DEFINE_string('pairs', None, 'A file of pairs, pairs/<style>.jsonl of a run.', required=True)
flags.DEFINE_string('out', None, 'The page; by default pairs/<style>.review.html.')
flags.DEFINE_integer('number', 50, 'How many replies are shown.', lower_bound=1)
flags.DEFINE_integer('seed', 0, 'Of the draw.')


def main(argv: list[str]) -> None:
    """Draws and writes."""
    if len(argv) > 1:
        raise app.UsageError(f'expected flags only, got {argv[1:]}; did you forget two dashes?')
    from etils import epath

    from warmjax import records, runs
    from warmjax.rewrite import review

    values = flags.FLAGS
    try:
        pairs = records.read(values.pairs, records.Pair)
    except (ValueError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    path = epath.Path(values.pairs)
    out = values.out or path.parent / f'{path.name.removesuffix(".jsonl")}.review.html'
    items = review.choose(pairs, values.number, values.seed)
    runs.write_atomic(out, review.page(items, f'{len(items)} of the replies in {path.name}'))
    print(out if '://' in str(out) else os.path.abspath(out))


if __name__ == '__main__':
    sys.modules['__main__'].__doc__ = __doc__
    app.run(main)
