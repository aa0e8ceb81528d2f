import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from warmjax.decode.requests import GREEDY, Output, Request, TokenScore
from warmjax.decode.serve.choices import Choice
from warmjax.decode.serve.protocol import Refusal

REQUEST = Request('r', [1], np.zeros(2, np.uint32), GREEDY, 8, None, 0)
LETTERS = ('a', 'b', 'ab', 'ba', 'c', 'abc')
texts = st.text('abc', min_size=1, max_size=4)


def decode(tokens) -> str:
    return ''.join(LETTERS[token] for token in tokens)


def answer(parts: list[list[int]], finish: str, stop: list[str]) -> tuple:
    """What a choice says when its tokens come in these parts, and how many pieces it needed."""
    choice, pieces = Choice(0, REQUEST, decode, stop), []
    for i, tokens in enumerate(parts, 1):
        scores = [TokenScore(-float(token), {}) for token in tokens]
        pieces.append(choice.add(Output(REQUEST, tokens, scores, finish if i == len(parts) else None)))
        if choice.finish:
            break
    joined = [list(itertools.chain.from_iterable(getattr(p, name) for p in pieces)) for name in ('tokens', 'scores')]
    return ''.join(piece.text for piece in pieces), choice.finish, choice.num_tokens, *joined


@hypothesis.given(
    st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=5),
    st.sampled_from(['stop', 'length']),
    st.lists(texts, max_size=3),
)
def test_choice_does_not_depend_on_how_many_tokens_come_at_a_time(parts, finish, stop):
    tokens = [*itertools.chain.from_iterable(parts)]
    one_by_one = [[token] for token in tokens[:-1]] + [tokens[-1:]]
    got = answer(parts, finish, stop)
    assert got == answer(one_by_one, finish, stop) == answer([tokens], finish, stop)
    whole = decode(tokens)
    # By hand: the text is cut where the first token that completes a stop string has it.
    for count in range(1, len(tokens) + 1):
        ends = [at for s in stop if (at := decode(tokens[:count]).find(s)) >= 0]
        if ends:
            assert got[:3] == (whole[: min(ends)], 'stop', count)
            return
    assert got[:4] == (whole, finish, len(tokens), tokens)


def test_logits_that_are_not_finite_are_an_error_of_the_server():
    with pytest.raises(Refusal, match='expected finite logits') as error:
        Choice(0, REQUEST, decode, []).add(Output(REQUEST, [0], [], 'error'))
    assert error.value.status == 500
