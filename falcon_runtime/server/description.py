"""What the OpenAPI document says of bodies beside what pydantic knows of them.

Much of what a body may be is checked where it is used, which has better words for what is wrong.
"""

from typing import Any

from ..sampling import SamplingParams

FIELDS = SamplingParams.model_json_schema()["properties"]
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
SAME = {
    "max_tokens": "max_new_tokens",
    "max_completion_tokens": "max_new_tokens",
    "max_output_tokens": "max_new_tokens",
    "top_logprobs": "logprobs",
}
"""Fields that are called otherwise here."""
TEXT = {"type": "string"}
PART = {"type": "object", "properties": {"type": {"const": "text"}, "text": TEXT}, "required": ["type", "text"]}
MORE: dict[str, dict[str, Any]] = {
    "messages": {
        "items": {
            "type": "object",
            "properties": {
                "role": {"type": "string", "enum": ["system", "developer", "user", "assistant", "tool"]},
                "content": {"anyOf": [TEXT, {"type": "array", "items": PART}, {"type": "null"}]},
            },
            "required": ["role"],
        }
    },
    "top_k": {"minimum": -1},
    "seed": {"minimum": -(2**63), "exclusiveMaximum": 2**63},
    "logit_bias": {
        "propertyNames": {"pattern": "^[0-9]+$"},
        "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
    },
    "stop": {"minLength": 1, "maxItems": 16},
    "choice": {"minItems": 1, "items": {"type": "string", "minLength": 1}},
    "modalities": {"items": {"const": "text"}},
}
"""What is true of fields here, and not everywhere."""
CONCERNS = {
    "string": ("minLength",),
    "array": ("items", "minItems", "maxItems"),
    "object": ("propertyNames", "additionalProperties"),
    "integer": BOUNDS,
    "number": BOUNDS,
}
"""Which rules each type has."""


def describe(schema: dict[str, Any]) -> None:
    """Completes a body's JSON schema, in place: descriptions and bounds of the fields of `SamplingParams`, and what
    lists and objects have in them."""
    for name, field in schema["properties"].items():
        known = FIELDS.get(SAME.get(name, name), {})
        if "description" in known:
            field.setdefault("description", known["description"])
        for kind in field.get("anyOf", [field]):
            rules = known | kind | MORE.get(name, {})
            kind.update({rule: rules[rule] for rule in CONCERNS.get(kind.get("type"), ()) if rule in rules})
