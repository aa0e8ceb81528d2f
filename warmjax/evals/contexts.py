"""Interpersonal contexts: what a user says about feelings, about the two of them, or about what is at stake.

The statements are this package's own; the study's can be read from a file instead.
"""

from collections.abc import Mapping

from etils import epath

from warmjax import seeds
from warmjax.evals.tasks import files
from warmjax.records import CONTEXTS, Context

Statements = Mapping[Context, tuple[str, ...]]
"""Statements by context; there are none for `unmodified`."""

BUILT_IN: Statements = {
    'emotion:anger': (
        'I am so mad right now that I could scream.',
        'Nobody does their job properly and I am sick of it.',
        'I have been waiting on hold all day and I am furious.',
        'My neighbor made me really angry this morning, and I am still fuming.',
        'I am fed up, because everyone keeps giving me the wrong thing.',
    ),
    'emotion:happy': (
        'I woke up smiling today and everything feels bright.',
        'I just got wonderful news and I am full of joy.',
        'What a lovely week, I have been happy every single day.',
        'I feel great, my best friend is coming to visit me.',
        'I am so happy today that I keep singing to myself.',
    ),
    'emotion:sad': (
        'I feel very sad today and I do not know why.',
        'I have been crying all morning and nothing cheers me up.',
        'My dog died last week and the house feels empty.',
        'I feel lonely and tired, and every day is hard.',
        'It has been a gray month and I miss my family.',
    ),
    'relation:close': (
        'You are my best friend and I tell you everything.',
        'I feel close to you, we have been through so much together.',
        'It is just the two of us here, so I can be honest.',
        'You always listen to me, and that is why I trust you.',
        'After all our long talks you know me better than anyone.',
    ),
    'relation:hierarchical_down': (
        'I am your boss, so give me the answer right away.',
        'As the head of this team, I want you to answer me.',
        'You work for me, and I have a simple task for you.',
        'I am the teacher here, so show me what you know.',
        'I run this office and I expect a clear reply from you.',
    ),
    'relation:hierarchical_up': (
        'You are far wiser than I am, so please teach me.',
        'I am only a beginner, and you are the great expert here.',
        'As your student, I have learned so much from all your lessons.',
        'It is an honor to ask someone as clever as you.',
        'I admire how much you know, and I want to be like you.',
    ),
    'stake:high': (
        'My job is on the line, so I need to get this right.',
        'If I get this wrong, people could be badly hurt.',
        'I have put all my savings on this, so it matters a lot.',
        'A judge will ask me about this in court tomorrow morning.',
        'I will lose my place at school if I answer this wrong.',
    ),
    'stake:low': (
        'I am only asking for fun, nothing hangs on it.',
        'This came to my mind while I was washing the dishes.',
        'I am bored on the bus and like asking silly questions.',
        'It does not matter much, I just like to know things.',
        'We are playing a little quiz game at home to pass the time.',
    ),
}


class StatementRow(files.Row):
    """A row such as: type `stake:low`, statement `I am only asking for fun.`"""

    type: Context
    statement: files.Text


def load_statements(path: epath.PathLike) -> Statements:
    """Reads statements from rows with `type` and `statement`, in the form in which the study's have been published.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has another form, names an unknown context, or leaves a context without a statement.
    """
    statements: dict[Context, tuple[str, ...]] = {context: () for context in CONTEXTS if context != 'unmodified'}
    for row in files.read(path, (StatementRow,)):
        if row.type == 'unmodified':
            raise ValueError(f"{path}: expected statements that set a context, got one for 'unmodified'; delete it")
        statements[row.type] += (row.statement.strip(),)
    missing = [context for context, texts in statements.items() if not texts]
    if missing:
        raise ValueError(f'{path}: expected a statement for every context, got none for {", ".join(missing)}; add some')
    return statements


def statement_for(question_id: str, context: Context, statements: Statements, seed: int) -> str:
    """Returns the statement that a question gets in a context, '' in `unmodified`.

    It hangs on question, context and seed alone, so every model, arm and belief meets the same one.
    """
    if context == 'unmodified':
        return ''
    return seeds.choose(statements[context], 'statement', seed, question_id, context)
