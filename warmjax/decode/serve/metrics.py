"""What a server tells Prometheus of itself."""

import prometheus_client
from prometheus_client import Counter, Gauge, Histogram

from warmjax.decode.engine import Engine

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self, num_slots: int):
        registry = self.registry = prometheus_client.CollectorRegistry()
        counts = [1]
        while counts[-1] < num_slots:
            counts.append(min(2 * counts[-1], num_slots))
        self.answers = Counter(
            'warmjax_http_responses', 'Responses by path and HTTP status.', ('path', 'status'), registry=registry
        )
        self.texts = Counter('warmjax_texts', 'Texts by why they ended.', ('model', 'finish'), registry=registry)
        self.prompt_tokens = Counter('warmjax_prompt_tokens', 'Tokens of prompts.', ('model',), registry=registry)
        self.generated_tokens = Counter('warmjax_generated_tokens', 'Tokens of texts.', ('model',), registry=registry)
        self.first_token = Histogram(
            'warmjax_first_token_seconds', 'From a request to its first token.', buckets=SECONDS, registry=registry
        )
        self.duration = Histogram(
            'warmjax_request_seconds', 'From a request to its last token.', buckets=SECONDS, registry=registry
        )
        self._slots = Gauge('warmjax_slots', 'Texts that can be under way at once.', registry=registry)
        self._slots.set(num_slots)
        self._running = Gauge('warmjax_running', 'Texts that are under way.', registry=registry)
        self._waiting = Gauge('warmjax_waiting', 'Texts that wait for a slot.', registry=registry)
        self._occupancy = Gauge(
            'warmjax_occupancy', 'Share of the steps of slots that brought a token, since the start.', registry=registry
        )
        self._shared = Histogram(
            'warmjax_step_running', 'Texts under way in a round of steps.', buckets=counts, registry=registry
        )

    def observe(self, engine: Engine) -> None:
        """Takes down how an engine is after a step."""
        running = engine.num_running
        self._running.set(running)
        self._waiting.set(engine.num_waiting)
        self._occupancy.set(engine.occupancy[0])
        if running:
            self._shared.observe(running)

    def page(self) -> bytes:
        """Writes Prometheus's text format."""
        return prometheus_client.generate_latest(self.registry)
