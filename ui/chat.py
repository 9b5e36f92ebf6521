"""The Chat tab. Conversations live in the visitor's browser alone: the server sees the open one with each request."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.errors import InvalidRequest
from falcon_runtime.fleet import Fleet
from falcon_runtime.generation import Generation
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


def build(fleet: Fleet, sampling: Sampling, opening: Opening) -> None:
    """Lays the tab out and connects its events."""
    tab = ChatTab(fleet, opening)
    tab.connect_runs(sampling)
    tab.connect_conversations(opening)
    tab.connect_system_prompt()
    tab.connect_files()
    link.wire(tab.share, tab.linked, "chat", {"text": tab.box}, sampling)
    opening.fill("chat", {"text": tab.box})


class Drawn(NamedTuple):
    """A conversation on the page."""

    talk: str
    system: str
    own: gr.Button
    """Goes back to the model's own system prompt."""


class Begun(NamedTuple):
    """A conversation that is waiting for its answer."""

    conversation: str
    talk: str
    """Without the last message, which is being written."""
    written: dict[str, Any]


class ChatTab:
    """The components of the tab, and the functions that their events call."""

    def __init__(self, fleet: Fleet, opening: Opening) -> None:
        self._fleet = fleet
        self.conversation = opening.conversation
        hint = "Talk with the model. Enter sends, Shift + Enter breaks the line, Escape stops."
        gr.Markdown(hint, elem_classes="hint")
        self._lay_out_conversations()
        self._lay_out_talk()
        self._lay_out_composer()
        self._lay_out_settings()
        with gr.Accordion("Keep this conversation", open=False), gr.Row(elem_classes="actions"):
            self.export = gr.Button("Export as JSON", size="sm")
            self.download = gr.Button("Download as Markdown", size="sm")
            self.upload = gr.UploadButton("Import JSON", size="sm", file_types=[".json"], elem_id="import")
        self.file = gr.Textbox(visible="hidden")

    def _lay_out_conversations(self) -> None:
        with gr.Row(elem_classes="conversations"):
            self.menu = gr.Dropdown(
                [], label="Conversation", show_label=False, scale=5, min_width=160, elem_id="conversation-menu"
            )
            self.new = gr.Button("New", size="sm", scale=0, min_width=80)
            self.delete = gr.Button("Delete", size="sm", scale=0, min_width=80)

    def _lay_out_talk(self) -> None:
        with gr.Column(elem_id="talk"):
            self.talk = gr.HTML(
                "",
                elem_id="conversation",
                apply_default_css=False,
                js_on_load="falcon.chat.attach(element, trigger, watch)",
            )
            # An answer is written here and joins the others when it is whole: for each piece of it the browser would go
            # through the whole conversation, which takes a tenth of a second with fifty messages.
            self.live = gr.HTML("", elem_id="live", apply_default_css=False)
            jump = '<button type="button" hidden>Go to the end ↓</button>'
            gr.HTML(jump, elem_id="jump", js_on_load="falcon.follow(element)")
        self.written = gr.HTML(
            {}, html_template="", visible="hidden", js_on_load="falcon.chat.watchAnswer(props, watch)"
        )
        gr.HTML("", elem_id="chat-notice", js_on_load="falcon.chat.notice = element")
        self.line = gr.HTML(stats.IDLE)

    def _lay_out_composer(self) -> None:
        with gr.Row(elem_classes="ask"):
            self.box = gr.Textbox(
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
            wide: dict[str, Any] = {"scale": 1, "min_width": 96}
            self.send = gr.Button("Send", variant="primary", elem_id="chat-send", **wide)
            self.stop = gr.Button("Stop", variant="stop", visible=False, elem_classes="stop-run", **wide)
        with gr.Row(elem_classes="actions"):
            self.retry = gr.Button("Retry", size="sm")
            self.resume = gr.Button("Continue", size="sm", elem_classes="continue")
            self.undo = gr.Button("Undo", size="sm")
            self.clear = gr.Button("Clear", size="sm")
            self.share = gr.Button("Link", size="sm")
        self.linked = gr.HTML("")

    def _lay_out_settings(self) -> None:
        with gr.Accordion("Who answers, and how", open=False, elem_id="who-answers"):
            self.persona = gr.Dropdown(list(PERSONAS), label="Persona", info="Fills the system prompt.")
            self.system = gr.Textbox(
                "",
                label="System prompt",
                placeholder="None: the model answers as it was trained to.",
                lines=2,
                interactive=True,
                elem_id="system-prompt",
            )
            self.own = gr.Button("Use the model's own", size="sm", visible=False, elem_classes="own-system")
            self.beginning = gr.Textbox(
                "",
                label="Start the reply with",
                info="The next answer begins with these words, and goes on from them.",
            )

    def connect_runs(self, sampling: Sampling) -> None:
        locked = [self.retry, self.resume, self.undo, self.clear, self.new, self.delete, self.menu, self.upload]
        # One event for all ways to ask, so that one cannot begin while another does.
        start = Start(
            [self.talk.submit],
            self._begin,
            [self.conversation, self.beginning],
            [self.conversation, self.talk, self.written],
        )
        keep = Keep(
            lambda _last, _written, kept: (self._draw(load(kept)), ""),
            [self.written, self.conversation],
            [self.talk, self.live],
            js="(last, written) => (falcon.chat.over(written), [last, written, falcon.conversations.text()])",
        )
        Runs(self.send, self.stop, self.line, locked=locked).wire(
            self._answer, [self.conversation, *sampling.components], [self.live, self.written], [start], keep
        )
        submit_with(self.box, self.send)
        for name in ("send", "retry", "resume", "undo", "clear"):
            button: gr.Button = getattr(self, name)
            button.click(None, js=f"() => falcon.chat.{name}()", **INSTANT)
        self.clear.click(lambda: stats.IDLE, None, self.line, **INSTANT)
        self.stop.click(None, js="() => falcon.chat.stopping()", **INSTANT)

    def connect_conversations(self, opening: Opening) -> None:
        altered = self.talk.click(self._change, self.conversation, [self.conversation, self.talk], **INSTANT)
        for over in (altered.success, altered.failure):
            over(None, js="() => falcon.chat.changed()", **INSTANT)
        drawn = [self.talk, self.system, self.own]
        self.conversation.input(self._show, self.conversation, drawn, **INSTANT)
        opening.then(self._show, [self.conversation], drawn)
        for event in (self.conversation.change, self.conversation.select, opening.opened.then):
            event(None, None, self.menu, js="() => falcon.conversations.menu()", **INSTANT)
        self.new.click(None, js="() => falcon.conversations.begin()", **INSTANT)
        self.delete.click(None, js="() => falcon.chat.delete()", **INSTANT)
        self.menu.input(None, self.menu, js="id => falcon.conversations.select(id)", **INSTANT)

    def connect_system_prompt(self) -> None:
        self.system.change(None, None, self.own, js="() => falcon.conversations.wayToOwn()", **INSTANT)
        self.own.click(None, js="() => falcon.conversations.change({system: null})", **INSTANT)
        prompts = json.dumps(PERSONAS)
        self.persona.input(
            None, self.persona, js=f"name => falcon.conversations.change({{system: {prompts}[name]}})", **INSTANT
        )

    def connect_files(self) -> None:
        files = ((self.export, "conversation.json", to_json), (self.download, "conversation.md", to_markdown))
        for button, name, write in files:
            button.click(lambda kept, write=write: write(load(kept)), self.conversation, self.file, **INSTANT).then(
                None, self.file, js=f"text => falcon.save('{name}', text)", **INSTANT
            )
        self.upload.upload(take_in, self.upload, [self.conversation, self.line], **INSTANT)

    def _draw(self, conversation: Conversation, but_last: bool = False) -> str:
        path, examples = conversation.path, self._fleet.current.defaults.examples.chat
        return messages.render(path[:-1] if but_last else path, conversation, examples)

    def _show(self, kept: str) -> Drawn:
        """Draws the conversation that the browser has opened or changed by itself."""
        conversation = load(kept)
        own = conversation.system
        system = self._fleet.current.defaults.system if own is None else own
        return Drawn(self._draw(conversation), system, gr.Button(visible=own is not None))

    def _begin(self, kept: str, beginning: str, event: gr.EventData) -> Begun:
        """Prepares the conversation for the answer that is asked for: its last message, so far as it is there."""
        conversation = asked(load(kept), event, beginning)
        return Begun(dump(conversation), self._draw(conversation, but_last=True), answer_so_far(conversation))

    def _change(self, kept: str, event: gr.EventData) -> tuple[str, str]:
        conversation = changed(load(kept), event)
        return dump(conversation), self._draw(conversation)

    def _answer(self, kept: str, *values: Any) -> Iterator[tuple[Any, ...]]:
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

        with closing(streaming.to_page(self._fleet, call, controls.values(*values), show)) as updates:
            yield from (update for update in updates if update[0] is not None)


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
    finally:
        Path(path).unlink(missing_ok=True)
