"""What the browser keeps of conversations: `ui/script/conversations.js` alone, in pages that share a storage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route

SCRIPT = Path(__file__).parents[2] / "ui" / "script" / "conversations.js"
AROUND = """
window.said = []
window.drawn = 0
const chat = {working: false, say: text => said.push(text), quiet() {}}
Object.assign((window.falcon ??= {}), {chat, list: {draw() {}}, composer: {changed() {}}, say: key => key})
window.start = async fragment => {
  await falcon.conversations.restore(fragment ?? '')
  falcon.conversations.attach({value: ''}, () => drawn++, () => {})
}
window.tell = (text, id) => {  // As the server would return it.
  const {open} = falcon.conversations
  const message = {id: id ?? Math.trunc(Math.random() * 1e9), parent: open.current, role: 'user', content: text}
  const title = text.slice(0, 20)
  falcon.conversations.put({...open, messages: [...open.messages, message], current: message.id, title})
}
"""
"""What else of the page the script needs."""
HOLDS = """
() => {
  // Numbers that are the same at each run.
  let seed = 7
  const random = n => (seed = (seed * 48271) % 2147483647) % n
  let next = 1
  const change = conversation => {
    let messages = [...conversation.messages]
    for (let i = random(4); i > 0; i--) {
      const at = messages.length ? messages[random(messages.length)] : null
      if (random(3) || !at) messages.push({id: next++, parent: at && random(4) ? at.id : null, content: 'new'})
      else if (random(2)) messages = messages.map(m => (m === at ? {...m, content: 'changed ' + next++} : m))
      else {
        const gone = new Set([at.id])
        for (const m of messages) for (const n of messages) if (gone.has(n.parent)) gone.add(n.id)
        messages = messages.filter(m => !gone.has(m.id))
      }
    }
    const current = messages.length ? messages[random(messages.length)].id : null
    return {...conversation, messages, current, system: random(3) ? conversation.system : 'system ' + next++}
  }
  const ids = conversation => new Set(conversation.messages.map(m => m.id))
  const wrong = []
  for (let round = 0; round < 300; round++) {
    const base = change(change({id: 'x', system: null, messages: [], current: null}))
    const [mine, theirs] = [change(base), change(base)]
    const merged = falcon.merge(base, mine, theirs)
    const found = ids(merged)
    const check = (name, holds) => holds || wrong.push({name, base, mine, theirs, merged})
    check('no id twice', found.size === merged.messages.length)
    check('a tree', merged.messages.every(m => m.parent === null || found.has(m.parent)))
    check('the current one is there', merged.current === null || found.has(merged.current))
    for (const side of [mine, theirs]) {
      check('all that is new', side.messages.every(m => ids(base).has(m.id) || found.has(m.id)))
    }
    const followed = new Set(merged.messages.map(m => m.parent))
    for (const m of base.messages) {
      if (ids(mine).has(m.id) && ids(theirs).has(m.id)) check('what both have', found.has(m.id))
      else check('nothing that was deleted, unless something follows', !found.has(m.id) || followed.has(m.id))
    }
    for (const m of merged.messages) {
      const [b, a, t] = [base, mine, theirs].map(side => side.messages.find(n => n.id === m.id))
      if (a && t) check('the side that changed wins', m.content === (a.content === b?.content ? t : a).content)
    }
    check('the system prompt', merged.system === (mine.system === base.system ? theirs.system : mine.system))
    check('mine alone', JSON.stringify(falcon.merge(base, mine, base).messages.map(m => m.id).sort())
      === JSON.stringify([...ids(mine)].sort()))
    check('theirs alone', JSON.stringify(falcon.merge(base, base, theirs).messages.map(m => m.id).sort())
      === JSON.stringify([...ids(theirs)].sort()))
  }
  return wrong.slice(0, 1)
}
"""


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """Another visitor's browser, in which any page of http://page.test has the script."""

    def page(route: Route) -> None:
        body = f"<script>{AROUND}</script><script>{SCRIPT.read_text()}</script>"
        route.fulfill(body=body, content_type="text/html; charset=utf-8")

    context = browser.new_context()
    context.route("http://page.test/**", page)
    yield context
    context.close()


def visit(context: BrowserContext, fragment: str = "") -> Page:
    page = context.new_page()
    page.goto(f"http://page.test/{fragment}")
    page.evaluate("start(location.hash)")
    return page


def reload(page: Page) -> None:
    page.reload()
    page.evaluate("start(location.hash)")


def tell(page: Page, text: str) -> None:
    page.evaluate("text => tell(text)", text)


def texts(page: Page) -> list[str]:
    """All messages of the conversation that is open."""
    return list(page.evaluate("falcon.conversations.open.messages.map(message => message.content)"))


def menu(page: Page) -> list[str]:
    titles = "falcon.conversations.all().map(({conversation}) => conversation.title || 'New conversation')"
    return list(page.evaluate(titles))


def kept(page: Page) -> Any:
    return page.evaluate("Object.keys(localStorage).length")


def test_merging_loses_nothing(context: BrowserContext) -> None:
    assert visit(context).evaluate(HOLDS) == []


def test_two_tabs_keep_a_conversation_each(context: BrowserContext) -> None:
    first, second = visit(context), visit(context)
    tell(first, "of the first")
    tell(second, "of the second")
    reload(first)
    assert texts(first) == ["of the first"]
    assert sorted(menu(first)) == ["of the first", "of the second"]
    third = visit(context)
    assert texts(third) == ["of the second"], "a new tab begins with what was changed last"


def test_two_tabs_write_in_the_same_conversation(context: BrowserContext) -> None:
    first = visit(context)
    tell(first, "both know")
    second = visit(context)
    assert texts(second) == ["both know"]
    second.evaluate("removeEventListener('storage', onstorage); falcon.chat.working = true")
    tell(first, "of the first")
    # Another process, which has what is stored a moment later.
    second.wait_for_function("Object.values(localStorage).some(kept => kept.includes('of the first'))")
    tell(second, "of the second")
    assert sorted(texts(second)) == ["both know", "of the first", "of the second"]
    first.wait_for_function("falcon.conversations.open.messages.length === 3 && drawn > 0")
    for page in (first, second):
        reload(page)
        assert sorted(texts(page)) == ["both know", "of the first", "of the second"]


def test_another_tab_is_followed_where_this_one_stood_still(context: BrowserContext) -> None:
    first = visit(context)
    tell(first, "a question")
    second = visit(context)
    tell(first, "another")
    second.wait_for_function("falcon.conversations.open.messages.length === 2")
    assert second.evaluate("falcon.conversations.open.current === falcon.conversations.open.messages[1].id")


@pytest.mark.parametrize(("working", "shown"), [("false", "two"), ("true", "one")])
def test_a_deleted_conversation_comes_back(context: BrowserContext, working: str, shown: str) -> None:
    """In the place of one that is being answered, it does not."""
    page = visit(context)
    tell(page, "one")
    page.evaluate("falcon.conversations.begin()")
    tell(page, "two")
    page.evaluate("void (window.bringBack = falcon.conversations.delete(falcon.conversations.open.id))")
    assert texts(page) == ["one"]
    assert menu(page) == ["one"]
    page.evaluate(f"falcon.chat.working = {working}")
    page.evaluate("bringBack()")
    assert texts(page) == [shown]
    reload(page)
    assert sorted(menu(page)) == ["one", "two"]


def test_what_is_being_written_is_kept_and_an_empty_answer_is_not(context: BrowserContext) -> None:
    page = visit(context)
    tell(page, "a question")
    answer = "falcon.conversations.put({...(o = falcon.conversations.open), current: 5, messages: [...o.messages.filter"
    answer += "(m => m.id !== 5), {id: 5, parent: o.messages[0].id, role: 'assistant', content: text}]})"
    page.evaluate(f"text => {{ let o; {answer} }}", "")
    assert page.evaluate("falcon.conversations.open.messages.length") == 2
    other = visit(context)
    assert texts(other) == ["a question"]
    page.evaluate(f"text => {{ let o; {answer} }}", "an answ")
    reload(page)
    assert texts(page) == ["a question", "an answ"]


def test_an_empty_conversation_is_not_kept_and_a_cleared_one_goes(context: BrowserContext) -> None:
    page = visit(context)
    page.evaluate("falcon.conversations.begin()")
    assert kept(page) == 0
    tell(page, "one")
    assert kept(page) == 1
    page.evaluate("falcon.conversations.change({messages: [], current: null})")
    assert kept(page) == 0
    page.evaluate("falcon.conversations.change({system: ''})")
    assert kept(page) == 1


def test_the_oldest_leave_when_the_browser_is_full(context: BrowserContext) -> None:
    page = visit(context)
    for i in range(9):
        page.evaluate("falcon.conversations.begin()")
        tell(page, f"{i}" + "漢" * 900_000)
        page.wait_for_timeout(2)  # A clock with milliseconds tells which is the oldest.
        assert texts(page)[0][0] == f"{i}"
    assert [title[0] for title in menu(page)] == ["8", "7", "6", "5", "4"]
    assert page.evaluate("said") == ["chat.left"] * 4
    reload(page)
    assert texts(page)[0][0] == "8"


def test_what_the_browser_has_no_room_for_is_said_and_costs_nothing_else(context: BrowserContext) -> None:
    page = visit(context)
    for text in ("smaller", "small"):
        tell(page, text)
        page.wait_for_timeout(2)
        page.evaluate("falcon.conversations.begin()")
    when = "falcon.conversations.all().slice(1).map(entry => entry.changed)"
    before = page.evaluate(when)
    tell(page, "漢" * 5_500_000)
    assert page.evaluate(when) == before
    assert page.evaluate("said.length") == 1
    assert page.evaluate("said") == ["chat.no_room"]
    assert page.evaluate("falcon.conversations.open.messages[0].content.length") == 5_500_000
    reload(page)
    assert menu(page) == ["New conversation", "small", "smaller"]


@pytest.mark.parametrize("entry", ["", "{", "null", "3", '{"conversation": {"id": "x"}}', '{"conversation": 3}'])
def test_what_a_hand_left_in_the_storage_does_no_harm(context: BrowserContext, entry: str) -> None:
    page = visit(context)
    page.evaluate("entry => localStorage.setItem('falcon-conversation:x', entry)", entry)
    page.evaluate("sessionStorage.setItem('falcon-open-conversation', 'x')")
    reload(page)
    assert texts(page) == []
    tell(page, "goes on")
    reload(page)
    assert texts(page) == ["goes on"]


def test_a_link_begins_a_conversation_of_its_own(context: BrowserContext) -> None:
    tell(visit(context), "before")
    page = visit(context, "#tab=chat&text=Hi&system=You+are+a+p%C3%A1rrot")
    assert texts(page) == []
    assert page.evaluate("falcon.conversations.open.system") == "You are a párrot"
    assert kept(page) == 1
    assert visit(context, "#tab=chat&text=Hi").evaluate("falcon.conversations.open.system") is None
