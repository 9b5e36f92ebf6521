"""The Chat tab: a conversation, which lives in the visitor's page alone."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from falcon_runtime import FalconRuntime
from falcon_runtime.chunk import Chunk
from falcon_runtime.errors import InvalidRequest
from falcon_runtime.sampling import SamplingParams

from . import controls, stats, streaming
from .runs import INSTANT, Runs, Start, submit_with
from .theme import LATEX

EXAMPLES = [
    "What is the capital city of Japan?",
    "Explain photosynthesis to a ten-year-old.",
    "Why is the sky blue?",
    "Write a short poem about the desert.",
]
Message = dict[str, Any]


def build(runtime: FalconRuntime, sampling: Sequence[Component]) -> None:
    """Lays the tab out and connects its events."""
    gr.Markdown("Talk with the model. Enter sends, Shift + Enter breaks the line.", elem_classes="hint")
    chatbot = gr.Chatbot(
        label="Conversation",
        show_label=False,
        height="clamp(300px, 46vh, 560px)",
        placeholder="### Ask anything\nThe conversation stays on this page until you clear it or leave.",
        examples=[{"text": example} for example in EXAMPLES],
        latex_delimiters=LATEX,
        buttons=["copy"],
        feedback_options=None,
        elem_id="conversation",
    )
    line = gr.HTML(stats.IDLE)
    with gr.Row(elem_classes="ask"):
        box = gr.Textbox(
            "",
            label="Message",
            show_label=False,
            placeholder="Message the model",
            lines=1,
            max_lines=6,
            scale=5,
            elem_id="chat-message",
            html_attributes=gr.InputHTMLAttributes(enterkeyhint="send"),
        )
        send = gr.Button("Send", variant="primary", scale=1, min_width=96, elem_id="chat-send")
        stop = gr.Button("Stop", variant="stop", scale=1, min_width=96, visible=False)
    with gr.Row(elem_classes="actions"):
        retry = gr.Button("Retry", size="sm")
        undo = gr.Button("Undo", size="sm")
        clear = gr.Button("Clear", size="sm")
    with gr.Accordion("System prompt", open=False):
        system = gr.Textbox(
            "",
            label="System prompt",
            show_label=False,
            placeholder="Who the model should be and how it should answer, such as: You answer in one short sentence.",
            lines=2,
        )

    def answer(history: list[Message], system: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        def call(params: SamplingParams) -> Iterator[Chunk]:
            if not history or history[-1]["role"] != "user":
                raise InvalidRequest("There is no message to answer: write one first.")
            return runtime.chat(messages(history, system), params)

        yield from streaming.to_page(
            runtime,
            call,
            controls.values(*values),
            lambda text: [*history, {"role": "assistant", "content": text}] if text else history,
        )

    Runs(send, stop, line, locked=[retry, undo, clear]).wire(
        answer,
        [chatbot, system, *sampling],
        chatbot,
        [
            Start([send.click], ask, [box, chatbot], [box, chatbot]),
            Start([retry.click], ask_again, [chatbot], [chatbot]),
            Start([chatbot.example_select], ask_example, [], [chatbot]),
        ],
    )
    submit_with(box, send)
    undo.click(take_back, [box, chatbot], [box, chatbot], **INSTANT)
    clear.click(lambda: ([], stats.IDLE), None, [chatbot, line], **INSTANT)


def ask(message: str, history: list[Message]) -> tuple[str, list[Message]]:
    """Moves the message from the box into the conversation."""
    if not message.strip():
        return message, history
    return "", [*history, {"role": "user", "content": message}]


def ask_again(history: list[Message]) -> tuple[list[Message]]:
    """The conversation up to and including its last question."""
    return (history[: _last_question(history) + 1],)


def ask_example(example: gr.SelectData) -> tuple[list[Message]]:
    """A conversation that begins with the example that was clicked."""
    return ([{"role": "user", "content": example.value["text"]}],)


def take_back(message: str, history: list[Message]) -> tuple[str, list[Message]]:
    """Takes the last question and its answer out; the question goes back into the box unless another stands there."""
    last = _last_question(history)
    if last < 0:
        return message, history
    return message or text_of(history[last]), history[:last]


def messages(history: list[Message], system: str = "") -> list[dict[str, str]]:
    """The page's conversation in the form of the runtime. Questions that were never answered join the one after them,
    since chat templates want the roles to alternate."""
    turns = [{"role": "system", "content": system}] if system.strip() else []
    for message in history:
        role, text = message["role"], text_of(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += "\n\n" + text
        else:
            turns.append({"role": role, "content": text})
    return turns


def text_of(message: Message) -> str:
    """What a message says: its content is text when it comes from here, a list of parts when it comes from the page."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content if "text" in part)


def _last_question(history: list[Message]) -> int:
    return max((i for i, message in enumerate(history) if message["role"] == "user"), default=-1)
