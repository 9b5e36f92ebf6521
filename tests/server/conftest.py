"""The HTTP API as programs find it: `falcon serve`, and OpenAI's own client."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from openai import OpenAI

from falcon_runtime.models.catalog import STARTER
from tests.served_app import STARTS_WITHIN_S, free_port


@dataclass
class Api:
    url: str
    process: psutil.Popen

    def client(self, key: str = "any") -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, http_client=httpx.Client(trust_env=False))

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, trust_env=False, timeout=60)

    def post(self, path: str, **options: object) -> httpx.Response:
        return httpx.post(self.url + path, trust_env=False, timeout=60, **options)  # type: ignore[arg-type]

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        lines = dict(line.rsplit(" ", 1) for line in self.get("/metrics").text.splitlines() if line[0] != "#")
        return float(lines[f"falcon_{name}"])


@contextmanager
def serve(models_dir: Path, *flags: str, ready: bool = True) -> Iterator[Api]:
    """Runs `falcon serve` on a free port; with `ready`, until its model can answer."""
    port = free_port()
    process = psutil.Popen(
        [sys.executable, "-m", "falcon_runtime", "serve", "--port", str(port), *flags],
        env=os.environ | {"FALCON_MODELS_DIR": str(models_dir)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    api = Api(f"http://127.0.0.1:{port}", process)
    try:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < deadline:
            assert process.poll() is None
            try:
                if api.get("/health/ready").status_code == 200 or not ready:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        yield api
    finally:
        with suppress(psutil.NoSuchProcess):  # Some tests end it.
            process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def api(starter_models_dir: Path) -> Iterator[Api]:
    with serve(starter_models_dir, "--requests-per-minute", "100000") as api:
        yield api


@pytest.fixture(scope="session")
def client(api: Api) -> OpenAI:
    return api.client()


MODEL = STARTER.name
