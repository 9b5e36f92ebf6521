"""`GET /metrics`, in the format of Prometheus."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from ..chunk import Stats
from ..fleet import Fleet

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
RATES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Metrics:
    """What the API has done since the server was started, and what the fleet does now."""

    def __init__(self, fleet: Fleet) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Fleet(fleet))
        options: dict[str, Any] = {"namespace": "falcon", "registry": self._registry}
        self.requests = Counter("requests", "Requests to the API.", ["endpoint", "status"], **options)
        self._prompt = Counter("prompt_tokens", "Tokens of prompts.", **options)
        self._cached = Counter("cached_tokens", "Tokens of prompts that were in the KV cache already.", **options)
        self._generated = Counter("generated_tokens", "Tokens of answers.", **options)
        self._drafted = Counter("drafted_tokens", "Tokens that were drafted.", **options)
        self._accepted = Counter("accepted_tokens", "Drafted tokens that were accepted.", **options)
        self._first = Histogram(
            "time_to_first_token_seconds", "From a request's arrival in the engine.", buckets=SECONDS, **options
        )
        self._rate = Histogram(
            "decode_tokens_per_second", "Rate of an answer's tokens after the first.", buckets=RATES, **options
        )

    def count(self, stats: Stats) -> None:
        """Counts an answer that has come to its end."""
        self._prompt.inc(stats.prompt_tokens)
        self._cached.inc(stats.cached_tokens)
        self._generated.inc(stats.generated_tokens)
        self._drafted.inc(stats.drafted_tokens)
        self._accepted.inc(stats.accepted_tokens)
        if stats.time_to_first_token_s is not None:
            self._first.observe(stats.time_to_first_token_s)
        if stats.decode_tokens_per_second is not None:
            self._rate.observe(stats.decode_tokens_per_second)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Fleet(Collector):
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        runtime, answering = self._fleet.current, self._fleet.answering
        slots = runtime.slots or 0
        now = {
            "model_ready": ("Whether the current model can answer.", runtime.status.state == "ready"),
            "slots": ("Requests that the current model runs at once.", slots),
            "running_requests": ("Requests that run, of the page and the API.", min(answering, slots)),
            "waiting_requests": ("Requests that wait, of the page and the API.", max(answering - slots, 0)),
        }
        for name, (words, value) in now.items():
            yield GaugeMetricFamily(f"falcon_{name}", words, value)


def together(texts: Mapping[str, str]) -> bytes:
    """What several servers tell, by their names, as one text: each number has the name in the label `replica`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Several(texts))
    return generate_latest(registry)


class _Several(Collector):
    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Metric]:
        metrics: dict[str, Metric] = {}
        for replica, text in self._texts.items():
            for told in text_string_to_metric_families(text):
                metric = metrics.setdefault(told.name, Metric(told.name, told.documentation, told.type))
                for sample in told.samples:
                    metric.add_sample(sample.name, {**sample.labels, "replica": replica}, sample.value)
        yield from metrics.values()
