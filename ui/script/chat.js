// The Chat tab: asking, editing in place, what happens to a question that fails, and the way back.

;(() => {
  const box = () => document.querySelector('#chat-message textarea')

  const fill = text => {
    const area = box()
    if (!area) return
    area.value = text
    area.dispatchEvent(new Event('input', { bubbles: true }))
  }

  const shortened = text => (text.length > 60 ? `${text.slice(0, 60).toWellFormed()}…` : text)

  const chat = {
    working: false, // Something was asked of the server that has not been settled yet.
    run: null, // What an answer is being written for, and the conversation as it was before.
    talk: null,
    notice: null,
    editing: null,

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
          messages: open.messages.map(old => (old.id === message ? { ...old, content: text } : old)),
        }
        falcon.conversations.saveSoon()
      })
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
        case 'show':
          falcon.returnFocus(this.talk.element, label)
          return this.change({ do: 'show', message: +button.dataset.version })
        case 'like':
        case 'dislike': {
          const feedback = button.getAttribute('aria-pressed') === 'true' ? null : label
          return this.change({ do: 'rate', message: id, feedback })
        }
      }
    },

    // Asking

    // Whether the run was begun: not while the server is at work, when the text stays where it is.
    start(action) {
      if (this.working) return false
      this.quiet()
      this.run = { action, before: falcon.conversations.open, begun: false, stopped: false }
      this.working = true
      document.getElementById('talk').dispatchEvent(new Event('toend'))
      this.talk.trigger('submit', action)
      return true
    },

    send() {
      const text = box().value
      if (!text.trim()) return this.say('There is no message to answer: write one first.')
      if (this.start({ do: 'ask', text })) fill('')
    },

    retry() {
      if (!this.lastQuestion()) return this.say('There is no message to answer: write one first.')
      this.start({ do: 'retry' })
    },

    resume() {
      if (!this.lastQuestion()) return this.say('There is no message to answer: write one first.')
      this.start({ do: 'continue' })
    },

    stopping() {
      if (this.run) this.run.stopped = true
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
        this.giveBack(run.action)
      } else {
        const nothing = text === beginning && !run.before.messages.some(old => old.id === message)
        const parent = this.message(message)?.parent
        const messages = nothing
          ? open.messages.filter(old => old.id !== message)
          : open.messages.map(old => (old.id === message ? { ...old, content: text } : old))
        falcon.conversations.put({ ...open, messages, current: nothing ? parent : open.current })
      }
    },

    // What was asked in vain is not lost.
    giveBack({ do: kind, text, message }) {
      if (kind === 'edit') this.say('The new wording was not answered.', 'Edit it again', () => this.edit(message, text))
      if (kind !== 'ask') return
      if (!box() || box().value) {
        const again = () => fill(box().value ? `${text}\n\n${box().value}` : text)
        this.say(`“${shortened(text)}” was not answered.`, 'Put it into the box', again)
      } else fill(text)
    },

    // The server could not even begin.
    failed() {
      const { run } = this
      this.run = null
      this.working = false
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
      if (!this.run) this.working = false
    },

    undo() {
      const question = this.lastQuestion()
      this.withWayBack('Taken back.', { do: 'undo' }, question)
      if (question && !box().value) fill(question.content)
    },

    clear() {
      this.withWayBack('Cleared.', { do: 'clear' }, falcon.conversations.open.messages.length)
    },

    withWayBack(sentence, action, anything) {
      const before = falcon.conversations.open
      this.quiet()
      if (!anything || !this.change(action)) return
      this.say(sentence, 'Bring back', () => falcon.conversations.set(before))
    },

    delete() {
      const { open } = falcon.conversations
      this.quiet()
      falcon.conversations.delete()
      if (!open.messages.length && open.system === null) return
      this.say('Conversation deleted.', 'Bring back', () => falcon.conversations.set(open))
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
      area.setAttribute('aria-label', 'Edited message')
      area.dir = 'auto'
      const form = document.createElement('form')
      form.className = 'edit'
      form.innerHTML = '<div><button class="submit">Submit</button><button type="button">Cancel</button></div>'
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

  Object.assign((window.falcon ??= {}), { chat, follow })
})()
