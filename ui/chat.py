"""The Chat tab: conversations, which live in the visitor's browser alone."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from falcon_runtime import FalconRuntime
from falcon_runtime.errors import InvalidRequest
from falcon_runtime.fleet import Fleet
from falcon_runtime.runtime import Generation
from falcon_runtime.sampling import SamplingParams

from . import controls, link, stats, streaming
from .controls import Sampling
from .conversations import Conversation, Conversations, Message, from_json, load, to_json, to_markdown
from .link import Opening
from .runs import INSTANT, Keep, Runs, Start, submit_with
from .streaming import Update
from .theme import LATEX

EXAMPLES = [
    "What is the capital city of Japan?",
    "Explain photosynthesis to a ten-year-old.",
    "Give me three tips for better sleep.",
    "Tell me a short story about a brave falcon.",
]
PERSONAS = {
    "Nobody in particular": "",
    "A helpful assistant": "You are a helpful assistant.",
    "A patient teacher": "You are a patient teacher. Explain in simple words, with one example.",
    "A brief expert": "You are an expert. Answer in one or two sentences.",
    "A pirate": "You are a pirate. Talk like one.",
}
SWITCH = """element.addEventListener('click', event => {
  const button = event.target.closest('button[data-message]')
  if (!button) return
  trigger('click', {message: +button.dataset.message})
  falcon.returnFocus(element, button.getAttribute('aria-label'))
})"""
"""Tells the server which version of a message was asked for."""
SET_SYSTEM = """(store, system) => store && {
  ...store, items: store.items.map(item => item.id === store.open ? {...item, system} : item)
}"""
"""Keeps the system prompt with its conversation. In the browser, where it is done before what is clicked next."""


class Task(NamedTuple):
    """What a run is to write."""

    message: int
    """The question to answer, or the answer to continue."""
    beginning: str = ""
    """What of the answer is there already."""
    continues: bool = False


def build(fleet: Fleet, sampling: Sampling, page_opening: Opening) -> None:
    """Lays the tab out and connects its events."""
    store = page_opening.conversations
    task = gr.State(None)
    gr.Markdown("Talk with the model. Enter sends, Shift + Enter breaks the line, Escape stops.", elem_classes="hint")
    with gr.Row(elem_classes="conversations"):
        menu = gr.Dropdown(
            [], label="Conversation", show_label=False, scale=5, min_width=160, elem_id="conversation-menu"
        )
        new = gr.Button("New", size="sm", scale=0, min_width=80)
        delete = gr.Button("Delete", size="sm", scale=0, min_width=80)
    with gr.Column(elem_id="talk"):
        chatbot = gr.Chatbot(
            label="Conversation",
            show_label=False,
            height=None,
            placeholder="### Ask anything\nYour conversations stay in this browser, on no server.",
            examples=[{"text": example} for example in EXAMPLES],
            latex_delimiters=LATEX,
            buttons=["copy"],
            editable="user",
            elem_id="conversation",
        )
        # An answer is written here and joins the others when it is whole: for each piece of it the browser would go
        # through the whole conversation, which takes a tenth of a second with fifty messages.
        live = gr.Markdown("", latex_delimiters=LATEX, elem_id="live")
    versions = gr.HTML("", elem_id="versions", js_on_load=SWITCH)
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
        resume = gr.Button("Continue", size="sm")
        undo = gr.Button("Undo", size="sm")
        clear = gr.Button("Clear", size="sm")
        share = gr.Button("Link", size="sm")
    linked = gr.HTML("")
    with gr.Accordion("Who answers, and how", open=False):
        persona = gr.Dropdown(list(PERSONAS), label="Persona", info="Fills the system prompt.")
        system = gr.Textbox(
            "",
            label="System prompt",
            placeholder="Who the model should be and how it should answer.",
            lines=2,
        )
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

    def answer(store: Any, task: Task | None, *values: Any) -> Iterator[tuple[Any, ...]]:
        conversation = load(store).shown

        def call(runtime: FalconRuntime, params: SamplingParams) -> Generation:
            if task is None:
                raise InvalidRequest("There is no message to answer: write one first.")
            return runtime.chat(turns(conversation, task), params)

        def show(update: Update) -> tuple[str]:
            begun = task is not None and (update.text or task.continues)
            return (task.beginning + update.text if task and begun else "",)

        yield from streaming.to_page(fleet, call, controls.values(*values), show)

    page = [store, chatbot, versions, menu, system]
    begun = [*page, box, task]
    Runs(send, stop, line, locked=[retry, resume, undo, clear, new, delete, menu, upload]).wire(
        answer,
        [store, task, *sampling.components],
        [live],
        [
            Start([send.click], ask, [box, opening, store, system], begun),
            Start([chatbot.example_select], ask_example, [opening, store, system], begun),
            Start([chatbot.edit], ask_edited, [box, opening, store, system], begun),
            Start([retry.click], ask_again, [box, opening, store, system], begun),
            Start([resume.click], go_on, [box, store, system], begun),
        ],
        Keep(keep, [task, store], [store, chatbot, versions, menu, live]),
    )
    submit_with(box, send)
    undo.click(take_back, [box, store], [*page, box], **INSTANT)
    clear.click(empty, store, page, **INSTANT).then(lambda: stats.IDLE, None, line, **INSTANT)
    new.click(lambda store: show(load(store).begin()), store, page, **INSTANT)
    delete.click(lambda store: show((all := load(store)).delete(all.open)), store, page, **INSTANT)
    menu.input(lambda id, store: show(load(store).select(id)), [menu, store], page, **INSTANT)
    versions.click(show_version, store, page, **INSTANT)
    chatbot.like(rate, store, store, **INSTANT)
    chosen = persona.input(lambda persona: PERSONAS[persona], persona, system, **INSTANT)
    for set_system in (system.blur, chosen.then):
        set_system(None, [store, system], store, js=SET_SYSTEM, **INSTANT)
    for button, name, write in ((export, "conversation.json", to_json), (download, "conversation.md", to_markdown)):
        button.click(lambda store, write=write: write(load(store).shown), store, file, **INSTANT).then(
            None, file, js=f"text => falcon.save('{name}', text)", **INSTANT
        )
    upload.upload(take_in, [upload, store], [*page, line], **INSTANT)
    link.wire(share, linked, "chat", {"text": box, "system": system}, sampling)
    page_opening.opened.then(restore, [store, page_opening.fragment], [*page, box], **INSTANT)


def show(conversations: Conversations) -> tuple[Any, ...]:
    """All that the tab shows of the conversations: what the browser keeps, messages, versions, menu, system prompt."""
    conversation = conversations.shown
    menu = gr.Dropdown([(item.title, item.id) for item in conversations.items], value=conversations.open)
    return (
        conversations.model_dump(mode="json"),
        show_messages(conversation.path),
        show_versions(conversation),
        menu,
        conversation.system,
    )


def show_messages(path: Sequence[Message]) -> gr.Chatbot:
    """Messages, and how the visitor rated the answers."""
    answers = [message for message in path if message.role == "assistant"]
    return gr.Chatbot([as_shown(message) for message in path], feedback_value=[message.feedback for message in answers])


def restore(store: Any, fragment: str) -> tuple[Any, ...]:
    """The conversations that the browser kept; a link opens another one with its system prompt."""
    conversations = load(store)
    tab, values = link.read(fragment)
    if tab != "chat":
        return *show(conversations), gr.skip()
    return *show(conversations.begin(values.get("system", ""))), values.get("text", "")


def show_versions(conversation: Conversation) -> str:
    """Where the shown path could have gone another way, as HTML with buttons that show it."""
    parts = []
    for place, message in enumerate(conversation.path):
        versions = conversation.versions(message.id)
        if len(versions) < 2:
            continue
        at = versions.index(message.id)
        name = f"{'Question' if message.role == 'user' else 'Answer'} {place // 2 + 1}"
        buttons = [
            f'<button type="button" aria-label="{name}: {word} version"'
            + (f' data-message="{versions[other]}"' if 0 <= other < len(versions) else " disabled")
            + f">{sign}</button>"
            for sign, word, other in (("‹", "earlier", at - 1), ("›", "later", at + 1))
        ]
        parts.append(f"<li>{name} {buttons[0]}<span>{at + 1}/{len(versions)}</span>{buttons[1]}</li>")
    return f'<ul aria-label="Versions">{"".join(parts)}</ul>' if parts else ""


def as_shown(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def turns(conversation: Conversation, task: Task) -> list[dict[str, str]]:
    """The shown path in the form of the runtime, with the beginning of the answer where there is one. Questions that
    were never answered join the one after them, since chat templates want the roles to alternate."""
    turns = [{"role": "system", "content": conversation.system}] if conversation.system.strip() else []
    for message in conversation.path:
        if turns and turns[-1]["role"] == message.role:
            turns[-1]["content"] += "\n\n" + message.content
        else:
            turns.append(as_shown(message))
    if task.beginning and not task.continues:
        turns.append({"role": "assistant", "content": task.beginning})
    return turns


def ask(text: str, opening: str, store: Any, system: str) -> tuple[Any, ...]:
    """Moves the message from the box into the conversation."""
    conversations = with_system(load(store), system)
    if not text.strip():
        return *show(conversations), text, None
    return asking(conversations, conversations.shown.add("user", text), opening, "")


def ask_example(opening: str, store: Any, system: str, example: gr.SelectData) -> tuple[Any, ...]:
    """Asks the example that was clicked."""
    conversations = with_system(load(store), system)
    return asking(conversations, conversations.shown.add("user", example.value["text"]), opening, "")


def ask_edited(box: str, opening: str, store: Any, system: str, edit: gr.EditData) -> tuple[Any, ...]:
    """Asks another wording of a question; the earlier one stays reachable."""
    conversations = with_system(load(store), system)
    question = conversations.shown.path[edit.index if isinstance(edit.index, int) else edit.index[0]]
    return asking(conversations, conversations.shown.revise(question.id, str(edit.value)), opening, box)


def ask_again(box: str, opening: str, store: Any, system: str) -> tuple[Any, ...]:
    """Asks for another answer to the last question; the earlier one stays reachable."""
    conversations = with_system(load(store), system)
    question = last_question(conversations.shown)
    if question is None:
        return *show(conversations), box, None
    return asking(conversations, conversations.shown.back_to(question.id), opening, box)


def asking(conversations: Conversations, conversation: Conversation, opening: str, box: str) -> tuple[Any, ...]:
    """The tab when the last message of `conversation` is about to be answered."""
    assert conversation.current is not None
    task = Task(conversation.current, opening)
    return *show(conversations.with_shown(conversation)), box, task


def go_on(box: str, store: Any, system: str) -> tuple[Any, ...]:
    """Lets the model go on with its last answer, or answer the question that has none."""
    conversations = with_system(load(store), system)
    path = conversations.shown.path
    if not path:
        return *show(conversations), box, None
    last = path[-1]
    if last.role == "user":
        return asking(conversations, conversations.shown, "", box)
    store, _, *others = show(conversations)
    return store, show_messages(path[:-1]), *others, box, Task(last.id, last.content, continues=True)


def keep(last: Update, task: Task | None, store: Any) -> tuple[Any, ...]:
    """Puts what a run has written into the conversation. The system prompt may be being typed: it stays as it is."""
    conversations = load(store)
    conversation = conversations.shown
    if task and last.text:
        content = task.beginning + last.text
        if task.continues:
            conversation = conversation.replace(task.message, content)
        elif conversation.current == task.message:
            conversation = conversation.add("assistant", content)
    return *show(conversations.with_shown(conversation))[:-1], ""


def take_back(box: str, store: Any) -> tuple[Any, ...]:
    """Takes the last question and its answers out; the question goes back into the box unless another stands there."""
    conversations = load(store)
    question = last_question(conversations.shown)
    if question is None:
        return *show(conversations), box
    return *show(conversations.with_shown(conversations.shown.remove(question.id))), box or question.content


def empty(store: Any) -> tuple[Any, ...]:
    """Takes everything out of the conversation but the system prompt."""
    conversations = load(store)
    cleared = conversations.shown.model_copy(update={"messages": (), "current": None})
    return show(conversations.with_shown(cleared))


def show_version(store: Any, event: gr.EventData) -> tuple[Any, ...]:
    """Shows another version of a message, and what came after it."""
    conversations = load(store)
    return show(conversations.with_shown(conversations.shown.show(event.message)))


def rate(store: Any, event: gr.LikeData) -> Any:
    """Keeps a like or dislike with its message."""
    conversations = load(store)
    message = conversations.shown.path[event.index if isinstance(event.index, int) else event.index[0]]
    feedback = {True: "Like", False: "Dislike"}.get(event.liked, event.liked or None)
    return conversations.with_shown(conversations.shown.rate(message.id, feedback)).model_dump(mode="json")


def take_in(path: str, store: Any) -> tuple[Any, ...]:
    """Adds a conversation from a file."""
    conversations = load(store)
    try:
        conversations = conversations.include(from_json(Path(path).read_bytes()))
    except InvalidRequest as error:
        return *show(conversations), stats.line(Update(error=str(error)))
    return *show(conversations), stats.IDLE


def with_system(conversations: Conversations, system: str) -> Conversations:
    return conversations.with_shown(conversations.shown.model_copy(update={"system": system}))


def last_question(conversation: Conversation) -> Message | None:
    return next((message for message in reversed(conversation.path) if message.role == "user"), None)
