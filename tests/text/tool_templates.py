"""Small chat templates that know tools, in the ways in which models' templates do. Their control tokens are those of
`small_tokenizer`, and `CONTROLS`."""

CONTROLS = ["[INST]", "[/INST]", "[CALLS]", "[RESULTS]", "[/RESULTS]"]

_ELSE = "{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endif %}{% endfor %}<|assistant|>"

HERMES = """\
{%- for m in messages %}{% if loop.first and tools %}<|system|># Tools{% for t in tools %}{{ '\\n' ~ t | tojson }}\
{% endfor %}<|end|>{% endif %}\
{% if m.role == 'tool' %}<|user|><tool_response>{{ '\\n' ~ m.content ~ '\\n' }}</tool_response><|end|>\
{% elif m.role == 'assistant' %}<|assistant|>{{ m.content }}{% for c in m.tool_calls or [] %}\
{% if m.content or not loop.first %}{{ '\\n' }}{% endif %}{% set f = c.function %}\
{{ '<tool_call>\\n{"name": "' ~ f.name ~ '", "arguments": ' ~ f.arguments | tojson ~ '}\\n</tool_call>' }}\
{% endfor %}<|end|>"""
HERMES += _ELSE

FALCON3 = """\
{%- if tools %}<|system|>{{ '<tools>' ~ tools | tojson(indent=2) ~ '</tools>' }}{% for m in messages %}\
{% if m.role == 'tool' %}<|assistant|>{{ '<tool_response>\\n' ~ m.content ~ '\\n</tool_response>' }}\
{% elif m.tool_calls %}{{ '\\n<tool_call>\\n' ~ m.tool_calls | tojson(indent=2) ~ '\\n</tool_call>' }}<|end|>"""
FALCON3 += _ELSE
FALCON3 += (
    "{% else %}{% for m in messages if m.role != 'tool' %}<|{{ m.role }}|>{{ m.content }}"
    "{% if m.role == 'assistant' %}<|end|>{% endif %}{% endfor %}<|assistant|>{% endif %}"
)
"""Without tools it leaves calls and results out; calls are a list between tags."""

LLAMA3 = """\
{%- if tools %}<|system|>{% for t in tools %}{{ t | tojson(indent=4) }}{% endfor %}<|end|>{% endif %}\
{% for m in messages %}{% if m.role == 'tool' %}<|user|>{{ m.content | tojson }}<|end|>\
{% elif 'tool_calls' in m %}{% if m.tool_calls | length != 1 %}{{ raise_exception('One call at once') }}{% endif %}\
{% set f = m.tool_calls[0].function %}\
<|assistant|>{{ '{"name": "' ~ f.name ~ '", "parameters": ' ~ f.arguments | tojson ~ '}' }}<|end|>"""
LLAMA3 += _ELSE

MISTRAL = """\
{%- for m in messages %}{% if m.role == 'user' %}\
[INST]{% if tools and loop.first %}{{ tools | tojson }}{% endif %}{{ m.content }}[/INST]\
{% elif m.role == 'tool' %}[RESULTS]{"content": {{ m.content }}, "call_id": "{{ m.tool_call_id }}"}[/RESULTS]\
{% elif m.tool_calls is defined %}[CALLS] [{% for c in m.tool_calls %}\
{% if c.id | length != 9 %}{{ raise_exception('Ids have nine characters') }}{% endif %}\
{{ (c.function | tojson)[:-1] ~ ', "id": "' ~ c.id ~ '"}' }}{% if not loop.last %}, {% endif %}{% endfor %}]<|end|>\
{% else %} {{ m.content | trim }}<|end|>{% endif %}{% endfor %}"""
"""A control token opens the calls, and nothing closes them."""

TEMPLATES = {"hermes": HERMES, "falcon3": FALCON3, "llama3": LLAMA3, "mistral": MISTRAL}
