"""Asks a running server, `falcon serve` or `python app.py`, by OpenAI's client (`pip install openai`).

python examples/api_client.py "Why is the sky blue?" http://127.0.0.1:8001/v1
"""

import sys

from openai import OpenAI


def main(question: str, url: str = "http://127.0.0.1:8001/v1") -> None:
    client = OpenAI(base_url=url, api_key="any")
    model = client.models.list().data[0].id
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], max_tokens=64, stream=True
    )
    for chunk in stream:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
