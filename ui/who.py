"""Who answers in the Chat tab, and how: the personas, the system prompt, and the words that a reply begins with."""

import json

import gradio as gr

from .runs import INSTANT
from .words import say

PERSONAS = {
    "own": None,
    "none": "",
    "teacher": "You are a patient teacher. Explain in simple words, with one example.",
    "expert": "You are an expert. Answer in one or two sentences.",
    "pirate": "You are a pirate. Talk like one.",
}
"""System prompts, in English, which all models know; None for the one that belongs to the model."""


def personas() -> list[tuple[str, str]]:
    """What the list of personas offers: words and names."""
    return [(say(f"chat.persona.{name}"), name) for name in PERSONAS]


class WhoAnswers:
    """The components among the settings. The browser holds the system prompt, as part of the open conversation."""

    def __init__(self) -> None:
        with gr.Column(elem_id="who-answers"):
            gr.HTML(f"<h2>{say('chat.who')}</h2>", apply_default_css=False, padding=False)
            self.persona = gr.Dropdown(
                personas(), label=say("chat.persona"), info=say("chat.persona.info"), elem_id="persona"
            )
            self.system = gr.Textbox(
                "",
                label=say("chat.system"),
                lines=2,
                max_lines=8,
                interactive=True,  # Gradio would lock what events write and none reads.
                elem_id="system-prompt",
            )
            with gr.Row(elem_classes="actions"):
                self.own = gr.Button(say("chat.own"), size="sm", visible=False)
                self.save_prompt = gr.Button(say("chat.save_prompt"), size="sm")
                self.forget_prompt = gr.Button(say("chat.forget_prompt"), size="sm", visible=False)
            self.beginning = gr.Textbox(
                "",
                label=say("chat.beginning"),
                info=say("chat.beginning.info"),
            )

    def connect(self) -> None:
        self.system.change(None, None, self.own, js="() => falcon.conversations.wayToOwn()", **INSTANT)
        self.own.click(None, js="() => falcon.conversations.change({system: null})", **INSTANT)
        prompts = json.dumps(PERSONAS)
        self.persona.input(None, self.persona, js=f"name => falcon.prompts.use(name, {prompts})", **INSTANT)
        ours = f"{json.dumps(personas(), ensure_ascii=False)}, {prompts}"
        shown = [self.persona, self.forget_prompt]
        self.save_prompt.click(None, None, shown, js=f"() => falcon.prompts.save({ours})", **INSTANT)
        self.forget_prompt.click(None, None, shown, js=f"() => falcon.prompts.forget({ours})", **INSTANT)
        self.system.change(None, None, shown, js=f"() => falcon.prompts.shown({ours})", **INSTANT)
