"""Texts of a model whose kernels are stored in fewer bits."""

import pytest
import tiny_quantized
from tiny_engine import make_engine, make_requests, texts


@pytest.mark.parametrize('kind', tiny_quantized.KINDS)
def test_engine_writes_what_the_codes_stand_for(tmp_path, kind):
    tiny_quantized.save(tmp_path)
    models = tiny_quantized.loaded(tmp_path, kind), tiny_quantized.stood_for(tmp_path, kind)
    ours, wanted = (texts(make_engine(model), make_requests(4)) for model in models)
    assert ours == wanted
