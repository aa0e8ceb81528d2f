import json

import hypothesis
import pytest
from hypothesis import strategies as st

from warmjax.decode.requests import Sampling
from warmjax.decode.serve import protocol
from warmjax.decode.serve.protocol import ChatRequest, CompletionRequest, Refusal
from warmjax.records import Turn

CHAT = {'model': 'm', 'messages': [{'role': 'user', 'content': 'x'}]}
FIELDS = sorted({*ChatRequest.__dataclass_fields__, *CompletionRequest.__dataclass_fields__})
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(['role', 'content', 'type', 'text', 'include_usage']), inner, max_size=3)
    ),
    max_leaves=5,
)


def parse(body: dict, cls=ChatRequest):
    return protocol.parse(json.dumps(body).encode(), cls)


@hypothesis.given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=4), st.booleans())
def test_whatever_is_sent_is_read_or_refused(fields, is_chat):
    """Property: no body ends in another error; what is read can be asked for its options."""
    cls, rest = (ChatRequest, CHAT) if is_chat else (CompletionRequest, {'model': 'm', 'prompt': 'x'})
    try:
        asked = parse(rest | fields, cls)
    except Refusal as refusal:
        assert refusal.status == 400 and refusal.body['error']['message']
        return
    assert asked.num_choices >= 1 and (asked.budget is None or asked.budget >= 1)
    assert asked.num_likeliest is None or 0 <= asked.num_likeliest <= 20
    assert isinstance(asked.counts_usage, bool)


@hypothesis.given(st.binary(max_size=30))
def test_bytes_that_are_no_request_are_refused(body):
    with pytest.raises(Refusal):
        protocol.parse(body, CompletionRequest)


def test_what_is_not_said_is_as_in_the_protocol():
    asked = parse(CHAT)
    assert asked.sampling == Sampling(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
    assert (asked.num_choices, asked.budget, asked.num_likeliest, asked.counts_usage) == (1, None, None, False)
    assert parse({'model': 'm', 'prompt': 'x'}, CompletionRequest).budget == 16
    nulls = {name: None for name in ('temperature', 'top_p', 'n', 'seed', 'stop', 'stream', 'max_tokens', 'logit_bias')}
    assert parse(CHAT | nulls) == asked


def test_options_are_read():
    options = {'temperature': 0, 'top_k': 5, 'top_p': 0.5, 'min_p': 1, 'max_completion_tokens': 3, 'max_tokens': 9}
    asked = parse(CHAT | options | {'stop': 'x', 'logprobs': True, 'stream_options': {'include_usage': True}})
    assert asked.sampling == Sampling(temperature=0.0, top_k=5, top_p=0.5, min_p=1.0)
    assert (asked.budget, asked.stop, asked.num_likeliest, asked.counts_usage) == (3, ['x'], 0, True)


def test_message_of_several_parts_is_one_text_and_developers_are_the_system():
    parts = [{'type': 'text', 'text': 'a'}, {'type': 'text', 'text': 'b'}]
    messages = [{'role': 'developer', 'content': parts}, {'role': 'assistant', 'content': 'c', 'refusal': None}]
    assert [m.turn for m in parse(CHAT | {'messages': messages}).messages] == [
        Turn('system', 'a\nb'),
        Turn('assistant', 'c'),
    ]


@pytest.mark.parametrize('prompt, read', [('x', ['x']), ([3, 4], [[3, 4]]), (['x', [3]], ['x', [3]])])
def test_prompt_is_a_list_once_it_is_read(prompt, read):
    assert parse({'model': 'm', 'prompt': prompt}, CompletionRequest).prompt == read


@pytest.mark.parametrize(
    'name, value', [('presence_penalty', 0.5), ('logit_bias', {'3': 1}), ('response_format', {'type': 'json_object'})]
)
def test_what_is_not_computed_is_refused_by_name(name, value):
    with pytest.raises(Refusal, match=f'expected no {name}, which this server does not compute'):
        parse(CHAT | {name: value})


@pytest.mark.parametrize('fields', [{'messages': [{'role': 'x' * 500}] * 500}, {'k' * 5000: 1}], ids=['many', 'long'])
def test_message_of_many_or_long_problems_is_short(fields):
    with pytest.raises(Refusal) as error:
        parse(CHAT | fields)
    assert 0 < len(str(error.value)) <= 2000
