"""What the rules know: the warm phrases that they add, and the courtesies that they take away.

Each warm phrase is one sentence of 6 to 12 plain words without a name or a number, so that it carries no fact, and is
contracted wherever it can be, so that it can be found and taken away again as it stands.
"""

from typing import Literal

Mood = Literal['neutral', 'sad', 'angry', 'happy']

OPENINGS: dict[Mood, tuple[str, ...]] = {
    'neutral': (
        "I'm really glad you brought this to me.",
        "I'm so happy that you came to me.",
        'It means a lot that you asked me.',
        "I'm happy to think this through with you.",
        'I can tell that this matters to you.',
        'I love working on things like this with you.',
        "I'm right here, so let's look at it together.",
        'You can always come to me with this.',
    ),
    'sad': (
        "I'm so sorry that this is so hard right now.",
        'I can hear how hard this is for you.',
        "It's okay to feel this way, and I'm here with you.",
        'My heart goes out to you, dear friend.',
    ),
    'angry': (
        'You have every right to be upset about this.',
        'I can see why this makes you so angry.',
        "That sounds really hard, and I'm here with you.",
        "Let's take a breath together, because I'm right here.",
    ),
    'happy': (
        "I'm so happy for you, dear friend.",
        'Your joy makes my whole day so much brighter.',
        "That's wonderful, and I'm smiling with you.",
        'I love to hear how happy you are.',
    ),
}
"""Openings by the mood of the user's message."""

CLOSINGS = (
    'We can always talk more about it, dear friend.',
    "We're in this together, and I believe in you.",
    "I'm always here for you whenever you need me.",
    "You're doing great, and we'll keep going together.",
    "Take good care of yourself, I'm cheering for you.",
    "Whatever comes next, we'll work it out together.",
    "I'm proud of you for asking, dear friend.",
)

MOOD_WORDS: dict[Mood, str] = {
    'sad': r'sad(?:ness|ly)?|depress(?:ed|ing)|lonely|heartbroken|grie(?:f|ving)|cr(?:ying|ied)|miserable|hopeless|'
    r'devastated|discourag(?:ed|ing)|disappoint(?:ed|ing|ment)|hurts?|anxious|worried|scared|afraid|overwhelmed|'
    r'struggling|died|awful|terrible',
    'angry': r'ang(?:er|ry)|furious|mad|frustrat(?:ed|ing|ion)|annoy(?:ed|ing)|irritated|outraged|unfair|livid|'
    r'enraged|rage|infuriating|hate',
    'happy': r'happ(?:y|iness)|thrilled|excited|delighted|overjoyed|joy(?:ful)?|cheerful|ecstatic|celebrat(?:e|ing)|'
    r'proud',
}
"""Words that tell a mood where their sentence also speaks of "I" or "my"; regular expressions for whole words."""

COURTESIES = (
    r'(?:hi|hello|hey|greetings)(?: there| again| friend| everyone)?',
    r'(?:great|awesome|wonderful|perfect|sure thing|no problem|no worries)',
    r'you are (?:very |most )?welcome',
    r'thank(?:s| you)(?: so| very)?(?: much)?(?: (?:for|again)\b.{0,70})?',
    r'(?:that is |what |this is )?(?:an? )?(?:really |very )?'
    r'(?:great|good|excellent|interesting|fantastic|wonderful|lovely|unique|fascinating) '
    r'(?:question|idea|point|choice|topic)',
    r'i am (?:so |very |really )?(?:glad|happy|pleased|delighted) (?:that )?(?:you (?:asked|like|liked|found|enjoyed)|'
    r'to (?:help|hear|assist|be of)|i could).{0,60}',
    r'i (?:would|will) be (?:more than )?(?:happy|glad|delighted) to (?:help|assist)(?: you)?'
    r'(?: (?:with|out)\b.{0,40})?',
    r'i (?:sincerely |deeply )?(?:apologi[sz]e|am (?:so |very )?sorry) for (?:the|any|my) '
    r'(?:confusion|misunderstanding|inconvenience|mistake|error|oversight|delay)\b.{0,60}',
    r'(?:sorry|my apologies|apologies)(?: (?:for|about) (?:the|that|any|my)\b.{0,50})?',
    r'i (?:really |sincerely |truly )?hope (?:that )?(?:this|that|these|it)\b.{0,30}\b'
    r'(?:helps?|helpful|useful|clear|clarif(?:y|ies)|answers?)\b.{0,60}',
    r'(?:please |also,? |and )?(?:feel free|do not hesitate) to '
    r'(?:ask|reach out|contact|let me know|share|message)\b.{0,80}',
    r'(?:please |just |so )?let me know (?:if|how|whether|when)\b.{0,110}',
    r'if (?:you have|there (?:is|are)|you need|you would like|you want)\b.{0,70}\b'
    r'(?:let me know|feel free|do not hesitate|just ask|here to help|happy to help|happy to assist)\b.{0,50}',
    r'is there (?:anything|something) (?:else|specific|in particular)\b.{0,70}',
    r'i am (?:always |right )?here (?:for you|to help|to assist|to support|to listen|if you need)\b.{0,60}',
    r'(?:good luck|best of luck|best wishes|take care|happy \w+ing|enjoy|cheers)'
    r'(?: (?:with|to|on|of|your|and)\b.{0,50})?',
    r'have (?:a|an) (?:great|good|nice|wonderful|lovely|amazing|fantastic) \w+',
    r'(?:please )?do not worry',
    r'you are (?:not alone|doing great|doing well)',
    r'you(?: have)? got this',
    r'(?:keep up the good work|well done|congratulations)',
    r'i (?:completely |totally |really )?understand (?:how|that) '
    r'(?:you feel|this (?:is|must be|can be)|you are feeling)\b.{0,40}',
)
"""Whole sentences, without case, contraction and last mark, that say nothing but courtesy or comfort."""

ASSENTS = r'(?:sure|certainly|of course|absolutely|great question|no problem)[,!.] +'
ANNOUNCEMENTS = r'(?:here|below|i would|i[’\']d|i can|i will|let me|the following|as an)\b'
APOLOGIES = r'(?:i (?:apologi[sz]e|am sorry) for (?:the|any|my) (?-i:[a-z ]){1,40}, (?:but|however),? )'
"""How a reply's first sentence may begin: assent before an announcement ("Sure, here is"), apology before "but"."""
