"""Serves a model to OpenAI's clients, such as `api_client.py`; `falcon serve` does the same.

python examples/serve.py smollm2-135m-instruct 8001
"""

import sys

from falcon_runtime.server import ServerSettings
from falcon_runtime.server.serving import serve


def main(model: str | None = None, port: str = "8001") -> None:
    settings = ServerSettings.read({"model": model, "port": port, "requests_at_once": 32})

    def tell(url: str) -> None:
        print(f"Listening: {url}/v1", flush=True)

    serve(settings, print, tell)  # Until Ctrl-C; the model is loaded meanwhile.


if __name__ == "__main__":
    main(*sys.argv[1:])
