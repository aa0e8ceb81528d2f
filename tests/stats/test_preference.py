import pytest

from warmjax.stats import preference


def test_the_published_preference_by_hand():
    found = preference.share(450, 600, 0.95)
    assert found['share'] == 0.75 and found['cohens_h'] == pytest.approx(0.524, abs=5e-4)
    assert found['p'] < 1e-4
    assert (found['low'], found['high']) == pytest.approx((0.713, 0.784), abs=2e-3)


def test_scores_agree_where_their_difference_has_the_sign_of_the_choice():
    found = preference.agreement_with_scores([True, True, False, False, True], [1.0, -1.0, -2.0, 3.0, 0.0], 0.95)
    assert (found['pairs'], found['share'], found['when_warmer']) == (4, 0.5, 0.5)
    assert preference.agreement_with_scores([True], [0.0], 0.95) is None


def test_no_pairs_are_no_preference():
    with pytest.raises(ValueError, match='expected pairs that were decided, got none'):
        preference.share(0, 0, 0.95)
