import dataclasses

import pytest
from tiny_training import LORA

from warmjax.lora.placement import Placement, placements


def placed(**changes):
    return placements(dataclasses.replace(LORA, **({'rank': 4, 'alpha': 8.0, 'targets': ('q_proj',)} | changes)), 3)


def test_names_ends_of_paths_and_patterns_choose_linear_maps():
    assert placed() == {'q_proj': Placement((4, 4, 4), (2.0, 2.0, 2.0))}
    assert placed(targets=('layers.1.mlp.up_proj', '[kv]_proj')) == {
        'k_proj': Placement((4, 4, 4), (2.0, 2.0, 2.0)),
        'v_proj': Placement((4, 4, 4), (2.0, 2.0, 2.0)),
        'up_proj': Placement((0, 4, 0), (0.0, 2.0, 0.0)),
    }


def test_first_pattern_that_matches_gives_rank_and_alpha():
    got = placed(
        rank_pattern=((r'layers\.2\..*', 2), ('q_proj', 8)), alpha_pattern=(('layers.0.self_attn.q_proj', 4.0),)
    )
    assert got == {'q_proj': Placement((8, 8, 2), (0.5, 1.0, 4.0))}
    assert got['q_proj'].width == 8 and got['q_proj'].columns().sum(axis=1).tolist() == [8, 8, 2]


def test_rank_stabilised_scale_is_alpha_over_the_root_of_the_rank():
    assert placed(rslora=True, rank_pattern=(('layers.1.*', 16),))['q_proj'].scales == (4.0, 2.0, 4.0)


@pytest.mark.parametrize(
    ('changes', 'idle'),
    [
        ({'targets': ('q_proj', 'layers.3.mlp.up_proj')}, 'layers.3.mlp.up_proj'),
        ({'rank_pattern': (('c_attn', 4),)}, 'c_attn'),
        ({'alpha_pattern': (('proj', 4.0),)}, 'proj'),
    ],
)
def test_target_or_pattern_without_a_match_is_refused(changes, idle):
    with pytest.raises(
        ValueError, match=rf"such as model\.layers\.0\.self_attn\.q_proj, got \['{idle}'\], which match none"
    ):
        placed(**changes)
