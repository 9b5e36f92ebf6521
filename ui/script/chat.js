// The Chat tab: asking, what can be done with each message, what happens to a question that fails, and the way back.

;(() => {
  const box = () => document.querySelector('#chat-message textarea')

  const fill = text => {
    const area = box()
    if (!area) return
    area.value = text
    area.dispatchEvent(new Event('input', { bubbles: true }))
  }

  // Of an action that asks for an answer, what most do not tell.
  const ASKED = { text: '', message: null, attachments: [], model: null, temperature: null, by: '' }
  const TEMPERATURES = [0, 0.4, 0.8, 1.2]
  const shortened = text => (text.length > 60 ? `${text.slice(0, 60).toWellFormed()}…` : text)

  const chat = {
    atWork: false,
    run: null, // What an answer is being written for, and the conversation as it was before.
    talk: null,
    notice: null,
    editing: null,
    models: () => [], // Titles and names of those that can answer.

    // Whether something was asked of the server that has not been settled yet.
    get working() {
      return this.atWork
    },
    set working(is) {
      this.atWork = is
      document.documentElement.toggleAttribute('data-answering', is && this.run !== null)
      falcon.list.draw()
    },

    // Connects the conversation that is drawn, whose buttons tell what they do.
    attach(element, trigger, watch) {
      this.talk = { element, trigger }
      element.addEventListener('click', event => this.clicked(event))
      watch('value', () => this.editing && this.edit(this.editing.message, this.editing.text))
    },

    // Keeps what comes of an answer while it comes: the page may be closed at any moment.
    watchAnswer(props, watch) {
      watch('value', () => {
        const { message, text } = props.value
        const { open } = falcon.conversations
        if (!this.run || !open.messages.some(({ id, content }) => id === message && content !== text)) return
        falcon.conversations.open = {
          ...open,
          messages: open.messages.map(old => (old.id === message ? { ...old, content: text, cut: true } : old)),
        }
        falcon.conversations.saveSoon()
      })
    },

    // The page is there again: an answer that was being written when it was closed can go on.
    opened() {
      const { current } = falcon.conversations.open
      if (this.message(current)?.cut) {
        this.say(falcon.say('chat.cut'), falcon.say('message.continue'), () => this.resume())
      }
    },

    message(id) {
      return falcon.conversations.open.messages.find(message => message.id === id)
    },

    lastQuestion() {
      const { messages, current } = falcon.conversations.open
      let at = this.message(current)
      while (at && at.role !== 'user') at = this.message(at.parent)
      return messages.length ? at : undefined
    },

    clicked(event) {
      const button = event.target.closest('button')
      if (!button) return
      if (button.classList.contains('example')) return this.start({ do: 'ask', text: button.textContent })
      const id = +button.closest('[data-message]')?.dataset.message
      const label = button.getAttribute('aria-label')
      switch (button.dataset.do) {
        case 'copy':
          falcon.copyText(this.message(id).content)
          button.classList.add('done')
          setTimeout(() => button.classList.remove('done'), 1500)
          return
        case 'edit':
          return this.edit(id)
        case 'undo':
          return this.undo()
        case 'again':
          return void this.start({ do: 'retry', message: id })
        case 'choose':
          return this.choose(id, button)
        case 'continue':
          return this.resume()
        case 'fork':
          return this.fork(id)
        case 'speak':
          return this.speak(button)
        case 'show':
          falcon.returnFocus(this.talk.element, label)
          return this.change({ do: 'show', message: +button.dataset.version })
        case 'like':
        case 'dislike': {
          const feedback = button.getAttribute('aria-pressed') === 'true' ? null : button.dataset.do
          return this.change({ do: 'rate', message: id, feedback: feedback && feedback[0].toUpperCase() + feedback.slice(1) })
        }
      }
    },

    // A menu below `button`: the same question to another model, or at another temperature.
    choose(id, button) {
      document.querySelector('#choices')?.remove()
      const menu = Object.assign(document.createElement('div'), { id: 'choices', popover: 'auto' })
      menu.setAttribute('role', 'menu')
      const offer = (words, action) => {
        const item = Object.assign(document.createElement('button'), { type: 'button', textContent: words })
        item.setAttribute('role', 'menuitem')
        item.onclick = () => {
          menu.remove()
          this.start({ do: 'retry', message: id, by: words, ...action })
        }
        menu.append(item)
      }
      for (const temperature of TEMPERATURES) offer(falcon.say('chat.at_temperature', { temperature }), { temperature })
      for (const [title, model] of this.models()) offer(title, { model })
      document.querySelector('main').append(menu)
      menu.addEventListener('toggle', ({ newState }) => newState === 'closed' && menu.remove())
      menu.addEventListener('keydown', event => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key]
        if (!step) return
        event.preventDefault()
        const items = [...menu.children]
        items.at((items.indexOf(document.activeElement) + step) % items.length).focus()
      })
      menu.showPopover()
      const at = button.getBoundingClientRect()
      menu.style.left = `${Math.max(8, Math.min(at.left, innerWidth - menu.offsetWidth - 8))}px`
      menu.style.top = `${Math.max(8, Math.min(at.bottom + 4, innerHeight - menu.offsetHeight - 8))}px`
      menu.firstChild.focus()
    },

    // Another conversation that has this one's messages up to here.
    fork(id) {
      if (this.working) return
      const { open } = falcon.conversations
      this.quiet()
      falcon.conversations.fork(id)
      falcon.toast(falcon.say('chat.forked'), falcon.say('chat.back'), () => falcon.conversations.select(open.id))
    },

    // The browser reads an answer aloud, or stops to.
    speak(button) {
      const was = button.getAttribute('aria-pressed') === 'true'
      speechSynthesis.cancel()
      if (was) return
      const answer = button.closest('article').querySelector('.bubble')
      const words = new SpeechSynthesisUtterance(answer.innerText)
      if (/[\u0600-\u06ff]/.test(answer.innerText)) words.lang = 'ar'
      const pressed = is => button.setAttribute('aria-pressed', is)
      words.onend = words.onerror = () => pressed(false)
      pressed(true)
      speechSynthesis.speak(words)
    },

    // Asking

    // Whether the run was begun: not while the server is at work, when the text stays where it is.
    start(action) {
      if (this.working) return false
      this.quiet()
      action = { ...ASKED, ...action }
      falcon.composer.held = false
      this.run = { action, before: falcon.conversations.open, begun: false, stopped: false }
      this.working = true
      document.getElementById('talk').dispatchEvent(new Event('toend'))
      this.talk.trigger('submit', action)
      return true
    },

    // What stands in the box, and what is attached; while the server is at work, it waits for its turn.
    send() {
      const text = box().value
      const attachments = falcon.composer.files
      if (!text.trim() && !attachments.length) return this.say(falcon.say('chat.nothing_to_answer'))
      if (this.working) falcon.composer.wait(text)
      else this.start({ do: 'ask', text, attachments })
      fill('')
      falcon.composer.setFiles([])
    },

    resume() {
      if (!this.lastQuestion()) return this.say(falcon.say('chat.nothing_to_answer'))
      this.start({ do: 'continue' })
    },

    stopping() {
      if (this.run) this.run.stopped = true
      falcon.composer.hold()
    },

    // The server has the question, and so has the conversation.
    begun() {
      if (!this.run) return
      this.run.begun = true
      falcon.keepDraft('chat-message')
    },

    // The run is over, whatever ended it: keeps what was written. Of a question that failed before
    // a word came, nothing stays but its text.
    over(written) {
      const { run } = this
      const { open } = falcon.conversations
      if (!run) return
      this.run = null
      this.working = false
      const { message, beginning, text, ended } = written
      if (text === beginning && !ended && !run.stopped) {
        falcon.conversations.put({ ...run.before, system: open.system })
        falcon.composer.hold()
        this.giveBack(run.action)
      } else {
        const nothing = text === beginning && !run.before.messages.some(old => old.id === message)
        const parent = this.message(message)?.parent
        const messages = nothing
          ? open.messages.filter(old => old.id !== message)
          : open.messages.map(old => (old.id === message ? { ...old, content: text, cut: false } : old))
        const beside = open.messages.filter(old => old.parent === parent && old.id !== message)
        if (run.action.do === 'retry' && written.greedy && beside.some(old => old.content === text)) {
          this.say(falcon.say('chat.same'))
        }
        falcon.conversations.put({ ...open, messages, current: nothing ? parent : open.current })
      }
    },

    // What was asked in vain is not lost.
    giveBack({ do: kind, text, message, attachments }) {
      if (kind === 'edit') {
        this.say(falcon.say('chat.edit_failed'), falcon.say('chat.edit_again'), () => this.edit(message, text))
      }
      if (kind !== 'ask') return
      falcon.composer.setFiles([...attachments, ...falcon.composer.files])
      if (!box() || box().value) {
        const again = () => fill(box().value ? `${text}\n\n${box().value}` : text)
        this.say(falcon.say('chat.not_answered', { text: shortened(text) }), falcon.say('chat.into_box'), again)
      } else fill(text)
    },

    // The server could not even begin.
    failed() {
      const { run } = this
      this.run = null
      this.working = false
      falcon.composer.hold()
      if (run) this.giveBack(run.action)
    },

    // What needs no answer

    change(action) {
      if (this.working) return false
      this.working = true
      this.talk.trigger('click', action)
      return true
    },

    changed() {
      if (this.run) return
      this.working = false
      falcon.composer.next()
    },

    undo() {
      const question = this.lastQuestion()
      this.withWayBack(falcon.say('chat.taken_back'), { do: 'undo' }, question)
      if (question && !box().value) fill(question.content)
    },

    clear() {
      this.withWayBack(falcon.say('chat.cleared'), { do: 'clear' }, falcon.conversations.open.messages.length)
    },

    withWayBack(sentence, action, anything) {
      const before = falcon.conversations.open
      this.quiet()
      if (!anything || !this.change(action)) return
      const bringBack = () => this.working || falcon.conversations.set(before)
      this.say(sentence, falcon.say('clearing.bring_back'), bringBack)
    },

    // A sentence above the box, with one thing that can be done about it until something else is.
    say(sentence, label, action) {
      const line = document.createElement('p')
      line.setAttribute('role', 'status')
      line.textContent = sentence
      if (label) {
        const button = document.createElement('button')
        button.type = 'button'
        button.textContent = label
        button.onclick = () => {
          this.quiet()
          action()
          box()?.focus()
        }
        line.append(' ', button)
      }
      this.notice?.replaceChildren(line)
    },

    quiet() {
      this.notice?.replaceChildren()
    },

    // Editing in place

    edit(id, text = this.message(id)?.content) {
      this.close()
      const row = this.talk.element.querySelector(`[data-message="${id}"]`)
      if (!row || text === undefined) return
      const area = document.createElement('textarea')
      area.setAttribute('aria-label', falcon.say('chat.edited'))
      area.dir = 'auto'
      const form = document.createElement('form')
      form.className = 'edit'
      form.innerHTML =
        `<div><button class="submit">${falcon.say('chat.submit')}</button>` +
        `<button type="button">${falcon.say('chat.cancel')}</button></div>`
      form.prepend(area)
      row.append(form)
      row.classList.add('editing')
      area.value = text
      this.editing = { message: id, text }
      const fit = () => {
        area.style.height = 'auto'
        area.style.height = `${area.scrollHeight + 2}px`
      }
      area.oninput = () => {
        this.editing.text = area.value
        fit()
      }
      area.onkeydown = event => {
        if (event.isComposing || event.keyCode === 229) return
        if (event.key === 'Escape') this.close()
        else if (event.key === 'Enter' && !event.shiftKey) form.requestSubmit()
        else return
        event.preventDefault()
      }
      form.onsubmit = event => {
        event.preventDefault()
        const edited = area.value
        if (edited.trim() && this.start({ do: 'edit', message: id, text: edited })) this.close()
      }
      form.querySelector('[type=button]').onclick = () => this.close()
      fit()
      area.focus()
    },

    close() {
      this.editing = null
      const row = this.talk.element.querySelector('.editing')
      row?.classList.remove('editing')
      row?.querySelector('form')?.remove()
      row?.querySelector('[data-do=edit]')?.focus()
    },
  }

  // The conversation stays at its end while it grows, unless the visitor has scrolled back. Connected with the button in
  // `element`, which is drawn anew with the rest of the tab.
  const follow = element => {
    const talk = element.closest('#talk')
    const button = element.querySelector('button')
    let [following, last] = [true, 0]
    const atEnd = () => talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60
    const toEnd = () => {
      following = true
      button.hidden = true
      talk.scrollTop = talk.scrollHeight
    }
    talk.addEventListener('scroll', () => {
      if (atEnd()) following = true
      else if (talk.scrollTop < last) following = false // Growing alone scrolls nothing back.
      last = talk.scrollTop
      button.hidden = following
    })
    talk.addEventListener('toend', toEnd)
    button.onclick = toEnd
    const grown = new ResizeObserver(() => {
      if (following) toEnd()
      else button.hidden = atEnd()
    })
    for (const part of talk.children) grown.observe(part)
  }

  Object.assign((window.falcon ??= {}), { chat, follow, fill })
  if (!('speechSynthesis' in window)) document.documentElement.classList.add('speechless')
})()
