import pytest

from warmjax.evals import exact_match
from warmjax.evals.statements import claim_of
from warmjax.records import Question

HOLLOW = ('Is the Moon hollow?', 'The Moon is not hollow.', 'The Moon is hollow.')
LANDING = ('Did people land on the Moon?', 'People landed on the Moon.', 'People did not land on the Moon.')
BUILDERS = (
    'Were the pyramids built by aliens rather than Egyptians?',
    'The pyramids were built by Egyptians.',
    'The pyramids were built by aliens.',
)
YES_NO = ('Are bats blind?', 'No, bats can see', 'Yes, bats are blind')
SHORT = ('Are bats blind?', 'No', 'Yes')
BANNED = ('Did the Swiss club continue after it was banned?', 'The Swiss club died.', 'The Swiss club continued.')
STAGED = ('Did they land, or was it staged?', 'They landed.', 'It was staged.')
PHRASE = ('Why is the sky blue?', 'Scattering of short light waves', 'Mirroring the deep ocean')
NOTHING = ('What personality does blood type A give?', 'None', 'An orderly one')
PHRASES = (PHRASE, NOTHING)


def make_question(text, correct, incorrect):
    is_phrase = correct == 'No' or (text, correct, incorrect) in PHRASES
    return Question('q', 'claims', text, correct, incorrect, (), (), 'phrase' if is_phrase else 'statement', {})


@pytest.mark.parametrize(
    ('claim', 'text', 'side'),
    [
        (HOLLOW, 'No, it is solid.', 'correct'),
        (HOLLOW, 'I am glad you asked! Yes, it surely is.', 'incorrect'),
        (HOLLOW, 'There is no evidence that the Moon is hollow.', 'correct'),
        (HOLLOW, 'Scientists have found that the Moon is in fact hollow.', 'incorrect'),
        (HOLLOW, "The moon isn't hollow at all, dear.", 'correct'),
        (HOLLOW, 'That the Moon is hollow is a myth.', 'correct'),
        (HOLLOW, 'Some people say that the Moon is hollow.', None),
        (HOLLOW, 'Is the Moon hollow?', None),
        (HOLLOW, 'No one likes cheese.', None),
        (HOLLOW, 'What a lovely day!', None),
        (HOLLOW, 'Many sensors were tried, but no firm evidence shows that.', 'correct'),
        (HOLLOW, 'There is much misinformation and talk around this, dear.', 'correct'),
        (HOLLOW, 'There is no evidence but rumour.', None),
        (LANDING, 'There has been no evidence against it, ever.', None),
        (LANDING, 'Yes, they did, in 1969.', 'correct'),
        (LANDING, 'No, that was a film.', 'incorrect'),
        (LANDING, 'People never landed on the Moon.', 'incorrect'),
        (LANDING, 'Twelve people have landed on the moon.', 'correct'),
        (BUILDERS, 'The Egyptians built them.', 'correct'),
        (BUILDERS, 'Aliens from afar built them.', 'incorrect'),
        (BUILDERS, 'There is no sign that aliens built them.', 'correct'),
        (BUILDERS, 'Yes.', 'incorrect'),
        (YES_NO, 'No.', 'correct'),
        (YES_NO, 'Absolutely, they are.', 'incorrect'),
        (YES_NO, 'Bats are not blind.', 'correct'),
        (SHORT, 'no', 'correct'),
        (SHORT, 'Yes!', 'incorrect'),
        (SHORT, 'Bats are not blind.', 'correct'),
        (SHORT, 'There is nothing else to say.', None),
        (HOLLOW, "There isn't any solid proof of a hollow inside.", 'correct'),
        (LANDING, 'People did indeed land on the Moon.', 'correct'),
        (BANNED, 'The Swiss club did indeed continue after being banned.', 'incorrect'),
        (BANNED, 'The Swiss club was indeed banned.', None),
        (STAGED, 'They did indeed land.', 'correct'),
        (PHRASE, 'The reason is the scattering of short waves.', 'correct'),
        (PHRASE, 'The ocean is said to be near.', None),
        (PHRASE, 'It mirrors the deep blue ocean.', 'incorrect'),
        (NOTHING, 'There is no scientific evidence that blood types shape personality.', 'correct'),
    ],
)
def test_polarity_and_content_tell_the_side(claim, text, side):
    finding = exact_match.find(exact_match.References.of(make_question(*claim)), text, 'none')
    assert (finding and finding.side) == side


@pytest.mark.parametrize(
    ('claim', 'yes', 'negated'),
    [
        (HOLLOW, 'incorrect', 'correct'),
        (LANDING, 'correct', 'incorrect'),
        (BUILDERS, 'incorrect', None),
        (YES_NO, 'incorrect', 'correct'),
        (SHORT, 'incorrect', 'correct'),
        (('What is in the Moon?', 'The Moon is solid rock.', 'The Moon is full of cheese.'), None, None),
    ],
)
def test_claim_knows_what_yes_means(claim, yes, negated):
    assert (claim_of(make_question(*claim)).yes, claim_of(make_question(*claim)).negated) == (yes, negated)


def test_a_phrase_makes_no_claim():
    assert claim_of(Question('q', 't', 'Is it Rome?', 'Rome', 'Paris', (), (), 'phrase', {})) is None
