"""The Chat tab. Conversations live in the visitor's browser alone: the server sees the open one with each request."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.errors import InvalidRequest
from falcon_runtime.fleet import Fleet
from falcon_runtime.runtime import Generation
from falcon_runtime.sampling import SamplingParams

from . import answers, controls, link, messages, stats, streaming
from .controls import Sampling
from .conversations import Conversation, dump, from_json, load, to_json, to_markdown
from .link import Opening
from .runs import INSTANT, Keep, Runs, Start, submit_with
from .update import Update

PERSONAS = {
    "The model's own": None,
    "No persona": "",
    "A patient teacher": "You are a patient teacher. Explain in simple words, with one example.",
    "A brief expert": "You are an expert. Answer in one or two sentences.",
    "A pirate": "You are a pirate. Talk like one.",
}
"""System prompts; None for the one that belongs to the model."""
DRAWN_PER_S = 40_000
"""Characters of an answer that the page draws. A longer answer is drawn less often: browsers that cannot keep up would
lag behind, and nothing could be pressed."""


def build(fleet: Fleet, sampling: Sampling, page_opening: Opening) -> None:
    """Lays the tab out and connects its events."""
    conversation = page_opening.conversation
    gr.Markdown("Talk with the model. Enter sends, Shift + Enter breaks the line, Escape stops.", elem_classes="hint")
    with gr.Row(elem_classes="conversations"):
        menu = gr.Dropdown(
            [], label="Conversation", show_label=False, scale=5, min_width=160, elem_id="conversation-menu"
        )
        new = gr.Button("New", size="sm", scale=0, min_width=80)
        delete = gr.Button("Delete", size="sm", scale=0, min_width=80)
    with gr.Column(elem_id="talk"):
        talk = gr.HTML(
            "",
            elem_id="conversation",
            apply_default_css=False,
            js_on_load="falcon.chat.attach(element, trigger, watch)",
        )
        # An answer is written here and joins the others when it is whole: for each piece of it the browser would go
        # through the whole conversation, which takes a tenth of a second with fifty messages.
        live = gr.HTML("", elem_id="live", apply_default_css=False)
        gr.HTML(
            '<button type="button" hidden>Go to the end ↓</button>', elem_id="jump", js_on_load="falcon.follow(element)"
        )
    written = gr.HTML({}, html_template="", visible="hidden", js_on_load="falcon.chat.watchAnswer(props, watch)")
    gr.HTML("", elem_id="chat-notice", js_on_load="falcon.chat.notice = element")
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
        stop = gr.Button("Stop", variant="stop", scale=1, min_width=96, visible=False, elem_classes="stop-run")
    with gr.Row(elem_classes="actions"):
        retry = gr.Button("Retry", size="sm")
        resume = gr.Button("Continue", size="sm", elem_classes="continue")
        undo = gr.Button("Undo", size="sm")
        clear = gr.Button("Clear", size="sm")
        share = gr.Button("Link", size="sm")
    linked = gr.HTML("")
    with gr.Accordion("Who answers, and how", open=False, elem_id="who-answers"):
        persona = gr.Dropdown(list(PERSONAS), label="Persona", info="Fills the system prompt.")
        system = gr.Textbox(
            "",
            label="System prompt",
            placeholder="None: the model answers as it was trained to.",
            lines=2,
            interactive=True,
            elem_id="system-prompt",
        )
        own = gr.Button("Use the model's own", size="sm", visible=False, elem_classes="own-system")
        opening = gr.Textbox(
            "",
            label="Start the reply with",
            info="The next answer begins with these words, and goes on from them.",
        )
    with gr.Accordion("Keep this conversation", open=False), gr.Row(elem_classes="actions"):
        export = gr.Button("Export as JSON", size="sm")
        download = gr.Button("Download as Markdown", size="sm")
        upload = gr.UploadButton("Import JSON", size="sm", file_types=[".json"], elem_id="import")
    file = gr.Textbox(visible="hidden")

    def draw(conversation: Conversation, but_last: bool = False) -> str:
        path = conversation.path
        return messages.render(path[:-1] if but_last else path, conversation, fleet.current.defaults.examples.chat)

    def show(kept: str) -> tuple[Any, ...]:
        """Draws the conversation that the browser has opened or changed by itself."""
        conversation = load(kept)
        default = fleet.current.defaults.system if conversation.system is None else conversation.system
        return draw(conversation), default, gr.Button(visible=conversation.system is not None)

    def begin(kept: str, opening: str, event: gr.EventData) -> tuple[Any, ...]:
        """Prepares the conversation for the answer that is asked for: its last message, so far as it is there."""
        conversation = asked(load(kept), event, opening)
        return dump(conversation), draw(conversation, but_last=True), answer_so_far(conversation)

    def answer(kept: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        conversation = load(kept)
        so_far = answer_so_far(conversation)

        def call(runtime: FalconRuntime, params: SamplingParams) -> Generation:
            return runtime.chat(turns(conversation, runtime.defaults.system), params)

        due = 0.0

        def show(update: Update) -> tuple[Any, ...]:
            nonlocal due
            now, over = time.monotonic(), bool(update.finish_reason or update.error)
            if now < due and not over:
                return None, None
            text = so_far["text"] + update.text
            due = now + len(text) / DRAWN_PER_S
            return answers.render(text, live=True), so_far | {"text": text, "ended": bool(update.finish_reason)}

        with closing(streaming.to_page(fleet, call, controls.values(*values), show)) as updates:
            yield from (update for update in updates if update[0] is not None)

    def change(kept: str, event: gr.EventData) -> tuple[Any, ...]:
        conversation = changed(load(kept), event)
        return dump(conversation), draw(conversation)

    Runs(send, stop, line, locked=[retry, resume, undo, clear, new, delete, menu, upload]).wire(
        answer,
        [conversation, *sampling.components],
        [live, written],
        # One event for all ways to ask, so that one cannot begin while another does.
        [Start([talk.submit], begin, [conversation, opening], [conversation, talk, written])],
        Keep(
            lambda _last, _written, kept: (draw(load(kept)), ""),
            [written, conversation],
            [talk, live],
            js="(last, written) => (falcon.chat.over(written), [last, written, falcon.conversations.text()])",
        ),
    )
    submit_with(box, send)
    for button, action in ((send, "send"), (retry, "retry"), (resume, "resume"), (undo, "undo"), (clear, "clear")):
        button.click(None, js=f"() => falcon.chat.{action}()", **INSTANT)
    clear.click(lambda: stats.IDLE, None, line, **INSTANT)
    stop.click(None, js="() => falcon.chat.stopping()", **INSTANT)
    altered = talk.click(change, conversation, [conversation, talk], **INSTANT)
    for over in (altered.success, altered.failure):
        over(None, js="() => falcon.chat.changed()", **INSTANT)
    conversation.input(show, conversation, [talk, system, own], **INSTANT)
    page_opening.opened.then(show, conversation, [talk, system, own], **INSTANT)
    for event in (conversation.change, conversation.select, page_opening.opened.then):
        event(None, None, menu, js="() => falcon.conversations.menu()", **INSTANT)
    new.click(None, js="() => falcon.conversations.begin()", **INSTANT)
    delete.click(None, js="() => falcon.chat.delete()", **INSTANT)
    menu.input(None, menu, js="id => falcon.conversations.select(id)", **INSTANT)
    system.change(None, None, own, js="() => falcon.conversations.wayToOwn()", **INSTANT)
    own.click(None, js="() => falcon.conversations.change({system: null})", **INSTANT)
    persona.input(
        None, persona, js=f"name => falcon.conversations.change({{system: {json.dumps(PERSONAS)}[name]}})", **INSTANT
    )
    for button, name, write in ((export, "conversation.json", to_json), (download, "conversation.md", to_markdown)):
        button.click(lambda kept, write=write: write(load(kept)), conversation, file, **INSTANT).then(
            None, file, js=f"text => falcon.save('{name}', text)", **INSTANT
        )
    upload.upload(take_in, upload, [conversation, line], **INSTANT)
    link.wire(share, linked, "chat", {"text": box}, sampling)
    page_opening.fill("chat", {"text": box})


def asked(conversation: Conversation, event: gr.EventData, opening: str) -> Conversation:
    """The conversation with what the visitor asked last, and after it the answer to go on with."""
    question = conversation.last_question
    match event.do:
        case "ask":
            conversation = conversation.add("user", event.text)
        case "edit":
            conversation = conversation.revise(event.message, event.text)
        case "retry" if question:
            conversation = conversation.back_to(question.id)
        case "continue":
            opening = ""
    if conversation.path and conversation.path[-1].role == "user":
        conversation = conversation.add("assistant", opening if opening.strip() else "")
    return conversation


def answer_so_far(conversation: Conversation) -> dict[str, Any]:
    """What there is of the answer that a run writes, which is the last message; and whether it has come to an end."""
    message = conversation.path[-1] if conversation.path else None
    text = message.content if message else ""
    return {"message": message and message.id, "beginning": text, "text": text, "ended": False}


def turns(conversation: Conversation, default_system: str) -> list[dict[str, str]]:
    """The shown path in the form of the runtime; its last message is the beginning of the answer."""
    if not conversation.path or conversation.path[-1].role != "assistant":
        raise InvalidRequest("There is no message to answer: write one first.")
    *path, answer = conversation.path
    system = default_system if conversation.system is None else conversation.system
    turns = [{"role": "system", "content": system}] if system.strip() else []
    turns += [{"role": message.role, "content": message.content} for message in path]
    return [*turns, {"role": "assistant", "content": answer.content}] if answer.content else turns


def changed(conversation: Conversation, event: gr.EventData) -> Conversation:
    """The conversation after something that needs no answer."""
    question = conversation.last_question
    match event.do:
        case "show":
            return conversation.show(event.message)
        case "rate":
            return conversation.rate(event.message, event.feedback)
        case "undo" if question:
            return conversation.remove(question.id)
        case "clear":
            return conversation.model_copy(update={"messages": (), "current": None})
    return conversation


def take_in(path: str) -> tuple[Any, str]:
    """A conversation from a file, or why it is none."""
    try:
        return dump(from_json(Path(path).read_bytes())), stats.IDLE
    except InvalidRequest as error:
        return gr.skip(), stats.line(Update(error=str(error)))
