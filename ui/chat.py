"""The Chat tab. Conversations live in the visitor's browser alone: the server sees the open one with each request."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.errors import FalconError, InvalidRequest
from falcon_runtime.fleet import Fleet
from falcon_runtime.generation import Generation
from falcon_runtime.models.choosing import Offer
from falcon_runtime.sampling import SamplingParams
from falcon_runtime.text.prompt import MAX_CHARACTERS

from . import answers, compare, controls, documents, link, messages, stats, streaming
from .controls import Sampling
from .conversations import Attachment, Conversation, dump, from_json, load, to_json, to_markdown
from .icons import icon
from .link import Opening
from .runs import INSTANT, LATEST, SILENT, Keep, Runs, Start
from .update import Update
from .who import WhoAnswers
from .words import say

DRAWN_PER_S = 40_000
"""Characters of an answer that the page draws. A longer answer is drawn less often: browsers that cannot keep up would
lag behind, and nothing could be pressed."""


def build(fleet: Fleet, sampling: Sampling, opening: Opening, settings: gr.Column, offer: Offer) -> None:
    """Lays the tab out, and what belongs to it among the `settings`, and connects its events."""
    tab = ChatTab(fleet, opening, settings, offer)
    tab.connect_runs(sampling)
    tab.connect_conversations(opening)
    tab.who.connect()
    tab.connect_files()
    tab.connect_composer()
    opening.then(lambda: [tab.offered()], [], [tab.choices])
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

    def __init__(self, fleet: Fleet, opening: Opening, settings: gr.Column, offer: Offer) -> None:
        self._fleet, self._offer = fleet, offer
        self.conversation = opening.conversation
        with gr.Row(elem_id="chat"):
            with gr.Column(elem_id="panel", min_width=0):
                self._lay_out_panel()
            with gr.Column(elem_id="talking", min_width=0):
                self._lay_out_talk()
                self._lay_out_composer()
        with settings:
            self.who = WhoAnswers()

    def _lay_out_panel(self) -> None:
        gr.HTML(
            "",
            elem_id="conversations",
            apply_default_css=False,
            padding=False,
            js_on_load="falcon.list.attach(element)",
        )
        with gr.Accordion(say("chat.keep"), open=False):
            with gr.Row(elem_classes="actions"):
                self.send_on = gr.Button(say("chat.share"), size="sm")
                self.share = gr.Button(say("link.link"), size="sm")
                self.clear = gr.Button(say("clearing.clear"), size="sm")
                self.export = gr.Button(say("chat.export"), size="sm")
                self.upload = gr.UploadButton(say("chat.import"), size="sm", file_types=[".json"], elem_id="import")
                self.download = gr.Button(say("chat.download"), size="sm")
            self.linked = gr.HTML("")
        self.file = gr.Textbox(visible="hidden")

    def _lay_out_talk(self) -> None:
        conversations, new = say("list.conversations"), say("list.untitled")
        head = (
            f'<button type="button" class="icon" data-do="panel" aria-controls="panel" aria-expanded="false" '
            f'aria-label="{conversations}" title="{conversations}">{icon("menu")}</button>'
            f'<span class="title" dir="auto"></span>'
            f'<button type="button" class="icon" data-do="new" aria-label="{new}" title="{new}">{icon("new")}</button>'
        )
        bare: dict[str, Any] = {"apply_default_css": False, "padding": False}
        gr.HTML(head, elem_id="talk-head", js_on_load="falcon.list.attachHead(element)", **bare)
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
            jump = f'<button type="button" hidden>{say("chat.end")} ↓</button>'
            gr.HTML(jump, elem_id="jump", js_on_load="falcon.follow(element)")
        unseen: dict[str, Any] = {"html_template": "", "visible": "hidden"}
        self.written = gr.HTML({}, js_on_load="falcon.chat.watchAnswer(props, watch)", **unseen)
        self.choices = gr.HTML([], js_on_load="falcon.chat.models = () => props.value", **unseen)
        """What `offered` gives, for the browser."""
        self.taken = gr.HTML({}, js_on_load="falcon.composer.watchFiles(props, watch)", **unseen)
        """The files that were attached last, as text."""

    def _lay_out_composer(self) -> None:
        with gr.Column(elem_id="composer"):
            gr.HTML("", elem_id="chat-notice", js_on_load="falcon.chat.notice = element")
            gr.HTML("", elem_id="attached", padding=False, js_on_load="falcon.composer.attach(element)")
            with gr.Row(elem_classes="ask"):
                self.attach = gr.UploadButton(
                    say("chat.attach"), file_count="multiple", elem_id="attach", min_width=0, scale=0
                )
                self.box = gr.Textbox(
                    "",
                    label=say("chat.message"),
                    show_label=False,
                    placeholder=say("chat.message_model"),
                    lines=1,
                    max_lines=6,
                    scale=5,
                    elem_id="chat-message",
                    html_attributes=gr.InputHTMLAttributes(enterkeyhint="send"),
                )
                narrow: dict[str, Any] = {"scale": 0, "min_width": 88}
                self.send = gr.Button(say("chat.send"), variant="primary", elem_id="chat-send", **narrow)
                self.stop = gr.Button(
                    say("runs.stop"), variant="stop", visible=False, elem_classes="stop-run", **narrow
                )
            with gr.Row(elem_classes="below"):
                self.line = gr.HTML(stats.idle())
                self.size = gr.HTML("", elem_id="message-size", js_on_load="falcon.composer.measure = trigger")

    def connect_runs(self, sampling: Sampling) -> None:
        # One event for all ways to ask, so that one cannot begin while another does.
        start = Start(
            [self.talk.submit],
            self._begin,
            [self.conversation, self.who.beginning],
            [self.conversation, self.talk, self.written],
        )
        keep = Keep(
            lambda _last, _written, kept: (self._draw(load(kept)), ""),
            [self.written, self.conversation],
            [self.talk, self.live],
            js="(last, written) => (falcon.chat.over(written), [last, written, falcon.conversations.text()])",
        )
        Runs(self.send, self.stop, self.line, locked=[self.clear, self.upload]).wire(
            self._answer,
            [self.conversation, self.written, *sampling.components],
            [self.live, self.written],
            [start],
            keep,
        )
        for event in (self.send.click, self.box.submit):
            event(None, js="() => falcon.chat.send()", **INSTANT)
        self.clear.click(None, js="() => falcon.chat.clear()", **INSTANT)
        self.clear.click(lambda: stats.idle(), None, self.line, **INSTANT)
        self.stop.click(None, js="() => falcon.chat.stopping()", **INSTANT)

    def connect_conversations(self, opening: Opening) -> None:
        altered = self.talk.click(self._change, self.conversation, [self.conversation, self.talk], **INSTANT)
        for over in (altered.success, altered.failure):
            over(None, js="() => falcon.chat.changed()", **INSTANT)
        drawn = [self.talk, self.who.system, self.who.own]
        self.conversation.input(self._show, self.conversation, drawn, **LATEST)
        opening.then(self._show, [self.conversation], drawn)
        # Another one is open.
        self.conversation.select(lambda: (stats.idle(), ""), None, [self.line, self.linked], **INSTANT)

    def connect_files(self) -> None:
        files = ((self.export, "conversation.json", to_json), (self.download, "conversation.md", to_markdown))
        for button, name, write in files:
            button.click(lambda kept, write=write: write(load(kept)), self.conversation, self.file, **INSTANT).then(
                None, self.file, js=f"text => falcon.save('{name}', text)", **INSTANT
            )
        self.upload.upload(take_in, self.upload, [self.conversation, self.line], **INSTANT)
        self.send_on.click(None, None, self.linked, js="() => falcon.conversations.share()", **INSTANT)

    def connect_composer(self) -> None:
        self.attach.upload(self._take_files, self.attach, [self.taken, self.line], **SILENT)
        self.size.input(self._measure, self.conversation, self.size, **LATEST)

    def offered(self) -> list[tuple[str, str]]:
        """The titles and names of the models that may write another answer."""
        return compare.choices(self._fleet, self._offer)

    def _draw(self, conversation: Conversation, but_last: bool = False) -> str:
        path, examples = conversation.path, self._fleet.current.defaults.examples.chat
        return messages.render(path[:-1] if but_last else path, conversation, examples)

    def _show(self, kept: str) -> Drawn:
        """Draws the conversation that the browser has opened or changed by itself."""
        conversation = load(kept)
        own = gr.Button(visible=conversation.system is not None)
        return Drawn(self._draw(conversation), self._system(conversation), own)

    def _system(self, conversation: Conversation) -> str:
        """The system prompt: the conversation's, or else that of the model which answers now."""
        return self._fleet.current.defaults.system if conversation.system is None else conversation.system

    def _begin(self, kept: str, beginning: str, event: gr.EventData) -> Begun:
        """Prepares the conversation for the answer that is asked for: its last message, so far as it is there."""
        conversation = asked(load(kept), event, beginning)
        so_far = answer_so_far(conversation) | {"model": event.model, "temperature": event.temperature}
        return Begun(dump(conversation), self._draw(conversation, but_last=True), so_far)

    def _change(self, kept: str, event: gr.EventData) -> tuple[str, str]:
        conversation = changed(load(kept), event)
        return dump(conversation), self._draw(conversation)

    def _take_files(self, paths: list[str]) -> tuple[Any, Any]:
        """The text of the files that were chosen, for the browser to keep until the message is sent."""
        files, problem = [], gr.skip()
        for path in paths:
            try:
                text = documents.read_document(path)
                files.append(Attachment(name=Path(path).name[:200], text=text, tokens=self._count(text)).model_dump())
            except FalconError as error:
                problem = stats.line(Update(error=str(error)))
            finally:
                Path(path).unlink(missing_ok=True)
        return {"files": files, "of": paths}, problem

    def _measure(self, kept: str, event: gr.EventData) -> str:
        """How much of the context the message would take, with what stands before it."""
        context = self._fleet.current.context
        if not context or self._fleet.current.status.state != "ready":
            return ""
        conversation = load(kept)
        system = self._system(conversation)
        message = self._count(event.text) + event.attached
        before = sum(self._count(text) for text in [system, *(message.told for message in conversation.path)])
        kind = "warning" if message + before >= context else ""
        size = say("chat.size", message=message, before=before, context=context)
        return f'<p class="{kind}">{size}</p>'

    def _count(self, text: str) -> int:
        """Tokens of a text, or of as much as a prompt may have; 0 while that cannot be told."""
        runtime = self._fleet.current
        return len(runtime.tokenize(text[:MAX_CHARACTERS])) if text and runtime.status.state == "ready" else 0

    def _answer(self, kept: str, asked: dict[str, Any], *values: Any) -> Iterator[tuple[Any, ...]]:
        conversation = load(kept)
        sampling = controls.values(*values) | other_settings(asked)
        # The name comes from the browser: none that is not offered should make the server download a model.
        model = next((name for _, name in self.offered() if name == asked.get("model")), None)
        so_far = answer_so_far(conversation) | {"greedy": not sampling["temperature"]}

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

        with closing(streaming.to_page(self._fleet, call, sampling, show, model)) as updates:
            yield from (update for update in updates if update[0] is not None)


def asked(conversation: Conversation, event: gr.EventData, opening: str) -> Conversation:
    """The conversation with what the visitor asked last, and after it the answer to go on with."""
    question = conversation.last_question
    match event.do:
        case "ask":
            conversation = conversation.add("user", event.text, attachments=event.attachments)
        case "edit":
            conversation = conversation.revise(event.message, event.text)
        case "retry" if event.message is not None:
            message = conversation.message(event.message)
            conversation = conversation.back_to(message.parent if message.role == "assistant" else message.id)
        case "retry" if question:
            conversation = conversation.back_to(question.id)
        case "continue":
            opening = ""
    if conversation.path and conversation.path[-1].role == "user":
        conversation = conversation.add("assistant", opening if opening.strip() else "", by=event.by)
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
    turns += [{"role": message.role, "content": message.told} for message in path]
    return [*turns, {"role": "assistant", "content": answer.content}] if answer.content else turns


def other_settings(asked: dict[str, Any]) -> dict[str, Any]:
    """The settings that this one answer is asked with in place of the page's."""
    return {} if asked.get("temperature") is None else {"temperature": float(asked["temperature"])}


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
        return dump(from_json(Path(path).read_bytes())), stats.idle()
    except InvalidRequest as error:
        return gr.skip(), stats.line(Update(error=str(error)))
    finally:
        Path(path).unlink(missing_ok=True)
