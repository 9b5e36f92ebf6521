"""Takes the facts out of a text, as JSON that always parses.

python examples/structured.py "Alice and Bob are going to a science fair in Doha on Friday."
"""

import json
import sys

from falcon_runtime import FalconRuntime, SamplingParams

EVENT = {
    "type": "object",
    "properties": {
        "what": {"type": "string", "maxLength": 40},
        "where": {"type": "string", "maxLength": 40},
        "who": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 4},
    },
    "required": ["what", "where", "who"],
    "additionalProperties": False,
}


def main(text: str, model: str | None = None) -> None:
    params = SamplingParams(temperature=0, max_new_tokens=200, constraint={"json_schema": EVENT})
    with FalconRuntime(model) as runtime:
        answer = "".join(chunk.text for chunk in runtime.instruct("Give this event as JSON.", text, params=params))
    for name, value in json.loads(answer).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main(*sys.argv[1:])
