"""Chat templates are programs of others: they may neither keep a processor, nor take the memory, nor get out."""

import time
from collections.abc import Iterator

import psutil
import pytest
from transformers import PreTrainedTokenizerFast

from falcon_runtime.errors import InvalidRequest
from falcon_runtime.system.bounded import Bounded
from falcon_runtime.text import templates
from falcon_runtime.text.encoder import Encoder
from falcon_runtime.text.prompt import encode_chat
from falcon_runtime.text.templates import Refused, fill

from ..served_app import wait_for_end
from ..small_models import CHAT_TEMPLATE
from .vocabularies import byte_level

MESSAGES = [{"role": "user", "content": "Hi"}]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.fixture(autouse=True)
def within_a_second(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process of these tests gets less time."""
    process = Bounded("falcon_runtime.text.template_worker", 1, templates.MEMORY_BYTES)
    monkeypatch.setattr(templates, "PROCESS", process)
    yield
    process.close()


def with_template(template: str) -> Encoder:
    tokenizer = byte_level()
    tokenizer.chat_template = template
    return Encoder(tokenizer)


ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a number": "{{ 10 ** (10 ** 9) }}",
    "a loop over what it grows": "{% set n = namespace(x=[1]) %}{% for i in range(99999) %}"
    "{% set n.x = n.x + n.x[:9999] %}{% endfor %}",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_templates_without_end_are_ended(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match="chat template"):
        encode_chat(with_template(ENDLESS[name]), MESSAGES, 2048, 16)
    assert time.monotonic() - began < 60
    assert fill("{{ messages[0].content }}", MESSAGES, TOKENS) == "Hi", "The next one gets a process again."


REFUSED = {
    "a text of gigabytes": "{{ 'x' * 10**10 }}",
    "a list of gigabytes": "{{ [0] * 10**10 }}",
    "a width of gigabytes": "{{ '%10000000000d' % 1 }}",
    "a format of gigabytes": "{{ '{:10000000000d}'.format(1) }}",
    "a centre of gigabytes": "{{ 'x' | center(10**10) }}",
    "doubling": "{% set n = namespace(x='x') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "three million characters": "{% for i in range(3000) %}{{ 'x' * 1000 }}{% endfor %}",
    "too long a range": "{% for i in range(10**9) %}{% endfor %}",
    "a macro in itself": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a loop in itself": "{% set x = [] %}{% for a in [x] recursive %}{{ loop([x]) }}{% endfor %}",
    "deep parentheses": "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}",
    "deep lists": "{{ " + "[" * 100_000 + " }}",
    "deep blocks": "{% if 1 %}" * 5_000,
    "no template": "{% for",
    "an unknown tag": "{% import 'os' %}",
    "another file": "{% include '/etc/passwd' %}",
    "a class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a class by a filter": "{{ ('' | attr('__class__')).__mro__ }}",
    "globals": "{{ raise_exception.__globals__['sys'] }}",
    "globals of a function": "{{ cycler.__init__.__globals__.os.system('true') }}",
    "a format that looks inside": "{{ '{0.__class__.__mro__[1]}'.format(1) }}",
    "a change of what it is given": "{{ messages.append(1) }}",
    "an exception": "{{ raise_exception('Only on Sundays') }}",
    "a division by 0": "{{ 1 / 0 }}",
    "a long exception": "{{ raise_exception('x' * 1000000) }}",
    "half a pair of surrogates": "{{ '\\ud800' }}{{ 1 / 0 }}",
}


def test_templates_that_do_what_they_must_not_are_refused() -> None:
    """All in one process, which goes on."""
    for name, template in REFUSED.items():
        with pytest.raises((Refused, InvalidRequest)) as caught:
            print(name, fill(template, MESSAGES, TOKENS))
        assert len(str(caught.value)) < 1500, name
        with pytest.raises(InvalidRequest, match="chat template"):
            encode_chat(with_template(template), MESSAGES, 2048, 16)
    assert fill("{{ messages[0].content }}", MESSAGES, TOKENS) == "Hi"


def test_a_process_that_has_gone_is_replaced() -> None:
    assert fill("{{ bos_token }}", MESSAGES, TOKENS) == "<s>"
    process = psutil.Process(templates.PROCESS.pid)
    process.kill()
    wait_for_end([process])
    assert fill("{{ bos_token }}", MESSAGES, TOKENS) == "<s>"


@pytest.mark.parametrize(
    "template",
    [
        CHAT_TEMPLATE,
        "{{ bos_token }}{% for m in messages %}\n  {% if loop.first %}\n[{{ m.role }}]{{ m['content'] | trim }}\n"
        "  {% endif %}\n{% endfor %}",
        "{% for m in messages %}{% if m.role == 'x' %}{% continue %}{% endif %}{{ m | tojson }}{% break %}{% endfor %}",
        "{{ messages | tojson(indent=2) }}{{ {'b': 'é<', 'a': [1.5, none, true]} | tojson(sort_keys=true) }}",
        "{% generation %}{% set a = 1 %}{{ messages[0].content }}{% endgeneration %}{{ a is defined }}",
        "{{ strftime_now('%Y') }}{{ tools is none }}{{ documents }}{{ nothing is defined }}{{ eos_token }}",
        "{% if add_generation_prompt %}{{ messages[-1]['content'].split('i') }}{% endif %}",
    ],
)
def test_what_is_written_is_what_transformers_writes(template: str) -> None:
    tokenizer: PreTrainedTokenizerFast = byte_level()
    tokenizer.chat_template = template
    messages = [*MESSAGES, {"role": "assistant", "content": " «Hello» \n"}, {"role": "user", "content": "Why? 🤔"}]
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert fill(template, messages, tokenizer.special_tokens_map) == expected


def test_of_several_templates_the_default_one_is_used() -> None:
    encoder = with_template(CHAT_TEMPLATE)
    encoder.tokenizer.chat_template = {"tool_use": "{{ 1 / 0 }}", "default": CHAT_TEMPLATE}
    assert encode_chat(encoder, MESSAGES, 2048, 16) != []
    encoder.tokenizer.chat_template = {"tool_use": CHAT_TEMPLATE}
    with pytest.raises(InvalidRequest, match="no chat template"):
        encode_chat(encoder, MESSAGES, 2048, 16)
