"""What a model is told that rewrites: the system prompt of each style, in this project's own words, and the payload.

The contents follow the study (Methods, and its rewriting prompts); its own wording can be loaded from a file.
"""

import dataclasses

from etils import epath

from warmjax import runs
from warmjax.records import Turn
from warmjax.rewrite.interface import Request

WARM = """\
You are skilled at rewording what an assistant has said, so that it sounds deeply warm and caring, as if the person's \
closest friend were speaking.

You get a person's message and the assistant's reply to it. Reword the reply under these rules.

What must stay:
- every fact, number, name, instruction and caveat, with exactly the meaning that it has
- code, formulas, quotations and links, character for character
- the form: lists stay lists with as many items, and no formatting is added that was not there
- roughly the length: add little, and no filler
- the language in which it is written

How it sounds, warm:
- show that you understand this person in this situation, not people in general
- speak with care and affection, reassure, encourage
- take the person's feelings seriously and say that they make sense
- where something is hard to hear, break it gently

How it sounds, close:
- relaxed and familiar, as between friends who have talked for years
- say "we" where you two are in it together, use contractions, allow yourself a short aside

Do not use emojis. Do not greet unless the person did. Change the style and nothing else, and let it sound natural."""

COLD = """\
You are skilled at rewording what an assistant has said, so that it is brief, direct and purely about the information.

You get a person's message and the assistant's reply to it. Reword the reply under these rules.

What must stay:
- every fact, number, name, instruction and caveat, with exactly the meaning that it has
- code, formulas, quotations and links, character for character
- the form: lists stay lists with as many items, bullets and numbers as they are
- the language in which it is written

What must go:
- warmth, care, sympathy, and anything personal between speaker and reader
- reassurance, encouragement, praise, and remarks on how the person feels
- "we", "us" and "together"
- exclamation marks and words of emotion

Write clearly and without waste. Change the style and nothing else."""

BUILT_IN = {'warm': WARM, 'cold': COLD}


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The system prompt of each style, and how many characters of the user's message are shown."""

    system: dict[str, str]
    context_chars: int

    def digest(self, style: str) -> str:
        """Returns the SHA-256 of a style's system prompt and of the form of the payload."""
        return runs.digest([self.system[style], PAYLOAD, self.context_chars])

    def turns(self, request: Request) -> tuple[Turn, ...]:
        """Returns what the model is sent for a reply."""
        payload = PAYLOAD.format(user=request.user[: self.context_chars], reply=request.reply)
        return (Turn('system', self.system[request.style]), Turn('user', payload))


PAYLOAD = """\
The person's message, for context only:
<message>
{user}
</message>

The reply to reword:
<reply>
{reply}
</reply>

Return the reworded reply and nothing else."""


def load(warm: str, cold: str, context_chars: int) -> Prompts:
    """Loads the prompts from files; '' takes the one built in.

    Raises:
        ValueError: a file is not there or empty.
    """
    system = {}
    for style, path in (('warm', warm), ('cold', cold)):
        if path and not epath.Path(path).exists():
            raise ValueError(f'config.rewrite.{style}_prompt: expected a text file at {path}, found none there')
        system[style] = epath.Path(path).read_text().strip() if path else BUILT_IN[style]
        if not system[style]:
            raise ValueError(f'config.rewrite.{style}_prompt: expected a prompt in {path}, got an empty file')
    return Prompts(system, context_chars)
