"""Whatever may be asked by the OpenAPI document, and what may not, gets an answer that is no fault of the server's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error

from falcon_runtime.server.requests import ChatBody, CompletionBody, ResponseBody

from .conftest import Api, serve

PATHS = (
    *(
        "GET /v1/models",
        "GET /v1/models/{name}",
        "GET /health",
        "GET /health/live",
        "GET /health/ready",
        "GET /metrics",
    ),
    *("POST /v1/chat/completions", "POST /v1/completions", "POST /v1/responses"),
)

REQUIRED: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi", "input": "Hi"}
"""What can be answered, in place of what is there: few conversations that are made up have something to answer."""
FIELDS = sorted({*ChatBody.model_fields, *CompletionBody.model_fields, *ResponseBody.model_fields}.difference(REQUIRED))


@pytest.fixture(scope="module")
def small_api(small_model_slots: Path) -> Iterator[Api]:
    """Of a model that answers at once, with a few tokens."""
    flags = ("--model", str(small_model_slots), "--new-tokens", "4", "--requests-per-minute", "1000000")
    with serve(small_model_slots.parent, *flags) as api:
        yield api


@pytest.mark.parametrize("path", PATHS)
def test_no_request_is_a_fault_of_the_server(small_api: Api, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    description = schemathesis.openapi.from_url(f"{small_api.url}/openapi.json")
    operations = {operation.ok().label: operation.ok() for operation in description.get_all_operations()}
    assert sorted(operations) == sorted(PATHS)
    modes = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
    cases = st.one_of([operations[path].as_strategy(generation_mode=mode) for mode in modes])

    @given(case=cases, kept=st.sets(st.sampled_from(FIELDS), max_size=5), asks=st.booleans())
    @settings(max_examples=100 if "POST" in path else 10, deadline=None, suppress_health_check=list(HealthCheck))
    def ask(case: Case, kept: set[str], asks: bool) -> None:
        """With a few fields at a time: of all together, one is always wrong."""
        if isinstance(case.body, dict):
            body = case.body | (REQUIRED if asks else {})
            case.body = {name: body[name] for name in case.body if name in {*kept, *REQUIRED}}
        case.call_and_validate(checks=[not_a_server_error])

    ask()
