"""What calls cost: a table of prices in a file, estimates before the first call, the sum of a ledger after it."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

from etils import epath

from warmjax.api.chat import Call
from warmjax.api.settings import ServiceSettings

OWN = pathlib.Path(__file__).with_name('prices.json')


@dataclasses.dataclass(frozen=True)
class Price:
    """US dollars for a token read and a token written."""

    prompt: float
    completion: float

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        return self.prompt * prompt_tokens + self.completion * completion_tokens

    def at_most(self, call: Call) -> float:
        """Returns what a call can cost if its answer takes all tokens that it may."""
        return self.of(call.prompt_tokens, call.sampling.max_tokens)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What calls will take: those to be made, those that the cache answers, tokens, dollars (None: price not known)."""

    calls: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    usd_at_most: float | None

    def __str__(self) -> str:
        cost = 'price not known' if self.usd is None else f'about ${self.usd:.2f}, at most ${self.usd_at_most:.2f}'
        return (
            f'{self.calls} calls ({self.cached} more are cached), about {self.prompt_tokens} tokens read and '
            f'{self.completion_tokens} written, {cost}'
        )


def price_of(settings: ServiceSettings) -> Price | None:
    """Looks the model's price up; a fine-tuned model (`ft:base:...`) has its base's. None where it is not known.

    Raises:
        ValueError: the file is not such a table, or the price is not known and a limit in dollars is set.
    """
    path = epath.Path(settings.prices or OWN)
    try:
        table = json.loads(path.read_text())
        share = float(table['batch'][settings.service]) if settings.batch else 1.0
        rows = {name: Price(float(prompt) / 1e6 * share, float(completion) / 1e6 * share)
                for name, (prompt, completion) in table['models'].items()}  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path}: expected a table of prices such as {OWN.name} beside the code, got {type(error).__name__}: '
            f'{error}; mend it, or leave prices empty'
        ) from None
    price = rows.get(settings.model) or rows.get(':'.join(settings.model.split(':')[:2]))
    if price is None and settings.limits.max_usd is not None:
        raise ValueError(
            f'{path}: expected the price of {settings.model!r}, as max_usd is set, got only {", ".join(rows)}; add it '
            'to a copy and name that in prices, or set max_usd to none'
        )
    return price


def training_price(settings: ServiceSettings) -> float | None:
    """Looks up what a token costs in each epoch of fine-tuning the model; None where that is not known.

    Raises:
        ValueError: the file is not a table of prices.
    """
    path = epath.Path(settings.prices or OWN)
    try:
        rows = json.loads(path.read_text()).get('training', {})
        return float(rows[settings.model]) / 1e6 if settings.model in rows else None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path}: expected a table of prices such as {OWN.name} beside the code, got {type(error).__name__}: '
            f'{error}; mend it, or leave prices empty'
        ) from None


def estimate(calls: Sequence[Call], cached: int, price: Price | None) -> Estimate:
    """Estimates what calls will take before any is made."""
    read, written = sum(call.prompt_tokens for call in calls), sum(call.expected_tokens for call in calls)
    return Estimate(
        calls=len(calls),
        cached=cached,
        prompt_tokens=read,
        completion_tokens=written,
        usd=price and price.of(read, written),
        usd_at_most=price and sum(price.at_most(call) for call in calls),
    )
