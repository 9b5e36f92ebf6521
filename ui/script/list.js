// The panel of conversations: search, names, and the way to each of them.

;(() => {
  const DAY_MS = 86_400_000
  const titleOf = ({ name, title }) => name || title || falcon.say('list.untitled')
  const icon = name => document.querySelector(`#icons [data-icon=${name}]`)?.innerHTML ?? ''

  // When something was changed, as people say it.
  const group = changed => {
    const midnight = new Date().setHours(0, 0, 0, 0)
    if (changed >= midnight) return falcon.say('list.today')
    if (changed >= midnight - DAY_MS) return falcon.say('list.yesterday')
    if (changed >= midnight - 7 * DAY_MS) return falcon.say('list.week')
    if (changed >= midnight - 30 * DAY_MS) return falcon.say('list.month')
    return new Date(changed).toLocaleDateString(falcon.language.locale, { month: 'long', year: 'numeric' })
  }

  const button = (kind, label) => {
    const button = Object.assign(document.createElement('button'), { type: 'button', className: 'icon', title: label })
    button.dataset.do = kind
    button.setAttribute('aria-label', label)
    button.innerHTML = icon(kind)
    return button
  }

  const list = {
    element: null,
    head: null,
    sought: '',

    attach(element) {
      this.element = element
      const begin = Object.assign(document.createElement('button'), { type: 'button', className: 'new' })
      begin.innerHTML = icon('new')
      begin.append(falcon.say('list.new'))
      begin.onclick = () => this.begin()
      const search = Object.assign(document.createElement('input'), { type: 'search' })
      search.placeholder = falcon.say('list.search')
      search.setAttribute('aria-label', falcon.say('keys.search'))
      search.oninput = () => {
        this.sought = search.value.trim().toLowerCase()
        this.draw()
      }
      const nav = document.createElement('nav')
      nav.setAttribute('aria-label', falcon.say('list.conversations'))
      nav.onclick = event => this.clicked(event)
      element.replaceChildren(begin, search, nav)
      this.draw()
    },

    // What stands above the conversation where the panel is closed.
    attachHead(element) {
      this.head = element
      element.querySelector('[data-do=new]').onclick = () => this.begin()
      falcon.panels.tell('panel')
      this.draw()
    },

    begin() {
      falcon.conversations.begin()
      falcon.panels.closeOver()
      document.querySelector('#chat-message textarea')?.focus()
    },

    clicked({ target }) {
      const row = target.closest('li')
      const pressed = target.closest('button')
      if (!row || !pressed) return
      if (pressed.dataset.do === 'edit') return this.rename(row)
      if (pressed.dataset.do === 'delete') return this.delete(row.dataset.id)
      falcon.conversations.select(row.dataset.id)
      falcon.panels.closeOver()
    },

    delete(id) {
      falcon.chat.quiet()
      const { conversation } = falcon.conversations.all().find(entry => entry.conversation.id === id) ?? {}
      const bringBack = falcon.conversations.delete(id)
      if (!conversation?.messages.length && !conversation?.system) return
      falcon.toast(falcon.say('list.deleted'), falcon.say('clearing.bring_back'), bringBack)
    },

    // A field in the place of the title, until Enter or Escape.
    rename(row) {
      const title = row.querySelector('.title')
      const field = Object.assign(document.createElement('input'), { type: 'text', className: 'rename', maxLength: 200 })
      field.value = title.textContent
      field.setAttribute('aria-label', falcon.say('list.new_title'))
      let over = false
      const end = keep => {
        if (over) return
        over = true
        field.remove()
        if (keep && field.value !== title.textContent) falcon.conversations.rename(row.dataset.id, field.value.trim())
        this.draw()
      }
      field.onkeydown = event => {
        if (event.isComposing || event.keyCode === 229) return // Safari tells the end of composing by the latter alone.
        if (event.key === 'Enter' || event.key === 'Escape') end(event.key === 'Enter')
      }
      field.onblur = () => end(true)
      row.replaceChildren(field)
      field.select()
      field.focus()
    },

    matches({ conversation }) {
      const { sought } = this
      if (!sought) return true
      const texts = [titleOf(conversation), ...conversation.messages.map(({ content }) => content)]
      return texts.some(text => String(text).toLowerCase().includes(sought))
    },

    draw() {
      const { open } = falcon.conversations
      if (this.head) this.head.querySelector('.title').textContent = titleOf(open)
      const nav = this.element?.querySelector('nav')
      for (const button of [this.head?.querySelector('[data-do=new]'), this.element?.querySelector('.new')]) {
        if (button) button.disabled = falcon.chat.working
      }
      if (!nav || nav.querySelector('.rename')) return
      const parts = []
      let [last, rows] = [null, null]
      for (const entry of falcon.conversations.all().filter(entry => this.matches(entry))) {
        const when = group(entry.changed)
        if (when !== last) {
          rows = document.createElement('ul')
          parts.push(Object.assign(document.createElement('h2'), { textContent: when }), rows)
          last = when
        }
        rows.append(this.row(entry.conversation, entry.conversation.id === open.id))
      }
      if (!parts.length) parts.push(Object.assign(document.createElement('p'), { textContent: falcon.say('list.nothing') }))
      nav.replaceChildren(...parts)
    },

    row(conversation, isOpen) {
      const row = document.createElement('li')
      row.dataset.id = conversation.id
      const title = Object.assign(document.createElement('button'), { type: 'button', className: 'title', dir: 'auto' })
      title.textContent = title.title = titleOf(conversation)
      if (isOpen) title.setAttribute('aria-current', 'true')
      row.append(title, button('edit', falcon.say('list.rename')), button('delete', falcon.say('list.delete')))
      for (const each of row.children) each.disabled = falcon.chat.working
      return row
    },
  }

  Object.assign((window.falcon ??= {}), { list })
})()
