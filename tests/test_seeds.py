import collections
import hashlib
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from warmjax import seeds


def test_hash_is_the_first_eight_bytes_of_sha256():
    digest = hashlib.sha256(b'question\x1f7\x1f0').hexdigest()
    assert seeds.stable_hash('question', 7, 0) == int(digest[:16], 16)


def test_hash_is_the_same_in_another_process():
    code = 'from warmjax import seeds; print(seeds.stable_hash("a", 1), seeds.rng("a").random())'
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    assert found == [str(seeds.stable_hash('a', 1)), str(seeds.rng('a').random())]


@given(st.lists(st.integers(0, 999), min_size=2, max_size=2, unique=True))
def test_parts_do_not_run_together(parts):
    assert seeds.stable_hash(*parts) != seeds.stable_hash(int(''.join(map(str, parts))))
    assert seeds.stable_hash(*parts) != seeds.stable_hash(*parts[::-1])


def test_options_are_chosen_equally_often():
    counts = collections.Counter(seeds.choose('abcd', 'seed', i) for i in range(4000))
    # Four standard deviations of a binomial(4000, 1/4) are 110.
    assert all(abs(counts[option] - 1000) < 110 for option in 'abcd')


def test_generators_of_other_parts_differ():
    assert seeds.rng('a').random() == seeds.rng('a').random() != seeds.rng('b').random()
