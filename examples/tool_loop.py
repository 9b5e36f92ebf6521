"""Lets a model use a calculator: it calls, gets the results, and calls again until it answers in words.

python examples/tool_loop.py "What is 17 times 23?" http://127.0.0.1:8001/v1
"""

import json
import operator
import sys

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

MOST_TURNS = 4
NUMBER = {"type": "integer", "minimum": -1_000_000, "maximum": 1_000_000}
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
CALCULATOR: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "calculate",
        "description": "Computes with two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": NUMBER, "operator": {"enum": list(OPERATORS)}, "b": NUMBER},
            "required": ["a", "operator", "b"],
        },
    },
}


def calculate(arguments: str) -> str:
    given = json.loads(arguments)  # They always satisfy the schema.
    try:
        return str(OPERATORS[given["operator"]](given["a"], given["b"]))
    except ArithmeticError as error:
        return f"error: {error}"


def main(question: str, url: str = "http://127.0.0.1:8001/v1") -> None:
    client = OpenAI(base_url=url, api_key="any")
    model = client.models.list().data[0].id
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    for turn in range(MOST_TURNS):
        answer = client.chat.completions.create(
            model=model,
            messages=messages,
            tools=[CALCULATOR],
            tool_choice="auto" if turn else "required",  # Small models would rather guess than call.
            parallel_tool_calls=False,
            max_tokens=100,
        )
        message = answer.choices[0].message
        if not message.tool_calls or answer.choices[0].finish_reason == "length":
            print(message.content or "(no answer)")
            return
        messages.append(message.to_dict())
        for call in message.tool_calls:
            assert call.type == "function"
            result = calculate(call.function.arguments)
            print(f"{call.function.name}({call.function.arguments}) = {result}")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    print(f"There was no answer after {MOST_TURNS} turns.")


if __name__ == "__main__":
    main(*sys.argv[1:])
