// The visitor's conversations, which the browser alone keeps: each is an entry of localStorage, which all tabs of the
// browser share. The one that is open belongs to the tab; what two tabs do to the same one is merged.

;(() => {
  const PREFIX = 'falcon-conversation:'
  const OPEN = 'falcon-open-conversation'
  const MOST = 100 // A longer menu helps nobody.
  const SAVE_MS = 500

  const LONGEST_LINK = 8000 // More than some programs pass on.
  const MOST_UNPACKED = 500_000

  const fresh = (system = null) => ({
    id: crypto.getRandomValues(new Uint32Array(4)).join('-'), // randomUUID is there over https alone.
    system,
    messages: [],
    current: null,
    name: '',
  })

  // As a text that a link can hold: compressed, in base64url.
  const through = (bytes, stream) => new Response(new Blob([bytes]).stream().pipeThrough(stream))
  const pack = async value => {
    const packed = await through(JSON.stringify(value), new CompressionStream('deflate-raw')).arrayBuffer()
    const bytes = new Uint8Array(packed)
    return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ''))
      .replaceAll('+', '-')
      .replaceAll('/', '_')
      .replaceAll('=', '')
  }

  // What such a text holds; nothing where it is damaged, or would become so large that it is no conversation.
  const unpack = async text => {
    try {
      const bytes = Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), letter => letter.charCodeAt())
      const reader = through(bytes, new DecompressionStream('deflate-raw')).body.getReader()
      const decoder = new TextDecoder()
      let json = ''
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        json += decoder.decode(part.value, { stream: true })
        if (json.length > MOST_UNPACKED) return {}
      }
      const { system = null, name = '', title = '', messages, current } = JSON.parse(json)
      const texts = [system ?? '', name, title, ...messages.map(({ content }) => content)]
      return texts.every(text => typeof text === 'string') ? { system, name, title, messages, current } : {}
    } catch {
      return {}
    }
  }

  // All that another tab or a visitor's hand may have left there is possible.
  const read = id => {
    try {
      const kept = JSON.parse(localStorage.getItem(PREFIX + id))
      return Array.isArray(kept?.conversation?.messages) && kept.conversation.id === id ? kept : null
    } catch {
      return null
    }
  }

  // Every conversation that is kept, the one that was changed last first.
  const list = () => {
    let keys = []
    try {
      keys = Object.keys(localStorage).filter(key => key.startsWith(PREFIX))
    } catch {} // The visitor allows no storage.
    const kept = keys.map(key => read(key.slice(PREFIX.length))).filter(Boolean)
    return kept.sort((a, b) => b.changed - a.changed)
  }

  // How much there is room for, only the browser knows: where one finds none, the oldest others leave.
  const write = conversation => {
    const text = JSON.stringify({ changed: Date.now(), conversation })
    const others = list().filter(entry => entry.conversation.id !== conversation.id)
    const gone = others.splice(MOST - 1)
    const drop = entry => localStorage.removeItem(PREFIX + entry.conversation.id)
    try {
      gone.forEach(drop)
      for (;;) {
        try {
          localStorage.setItem(PREFIX + conversation.id, text)
          if (gone.length) falcon.chat.say(falcon.say('chat.left', { count: gone.length }))
          return true
        } catch (error) {
          if (!others.length) throw error
          gone.push(others.pop())
          drop(gone.at(-1))
        }
      }
    } catch {
      for (const entry of gone.reverse()) {
        try {
          localStorage.setItem(PREFIX + entry.conversation.id, JSON.stringify(entry))
        } catch {}
      }
      return false
    }
  }

  // One that stood there before, as it was changed then.
  const keep = entry => {
    try {
      localStorage.setItem(PREFIX + entry.conversation.id, JSON.stringify(entry))
    } catch {
      falcon.chat.say(falcon.say('chat.no_room'))
    }
  }

  const remove = id => {
    try {
      localStorage.removeItem(PREFIX + id)
    } catch {}
  }

  const byId = conversation => new Map(conversation.messages.map(message => [message.id, message]))

  // The messages from one back to the first.
  const back = (messages, id) => {
    const path = []
    for (let at = messages.get(id); at && !path.includes(at); at = messages.get(at.parent)) path.push(at)
    return path
  }

  // The conversation after the changes of both sides to `base`: every message that one of them has and the other has not
  // deleted; a field is as the side that changed it wants it, and as `mine` where both did. What something follows stays.
  const merge = (base, mine, theirs) => {
    if (!theirs) return mine
    base ??= { messages: [] }
    const [before, own, other] = [base, mine, theirs].map(byId)
    const pick = (old, a, b) => (JSON.stringify(a) === JSON.stringify(old) ? b : a)
    const merged = new Map()
    for (const id of new Set([...other.keys(), ...own.keys()])) {
      if (own.has(id) && other.has(id)) merged.set(id, pick(before.get(id), own.get(id), other.get(id)))
      else if (!before.has(id)) merged.set(id, own.get(id) ?? other.get(id))
    }
    const all = new Map([...before, ...other, ...own])
    for (const message of [...merged.values()]) {
      for (const ancestor of back(all, message.parent)) if (!merged.has(ancestor.id)) merged.set(ancestor.id, ancestor)
    }
    const goesOn = mine.current === base.current && back(merged, theirs.current).some(m => m.id === mine.current)
    const wanted = goesOn ? theirs.current : mine.current
    const current = [wanted, ...back(all, wanted).map(message => message.id)].find(id => merged.has(id)) ?? null
    const [system, name] = ['system', 'name'].map(field => pick(base[field], mine[field], theirs[field]))
    return { ...mine, system, name: name ?? '', messages: [...merged.values()], current }
  }

  // As it is kept: without an answer of which nothing has come yet.
  const settled = conversation => {
    const begun = conversation.messages.filter(message => message.role === 'assistant' && !message.content)
    const messages = conversation.messages.filter(message => !begun.includes(message))
    const current = begun.find(message => message.id === conversation.current)?.parent ?? conversation.current
    return begun.length ? { ...conversation, messages, current } : conversation
  }

  const conversations = {
    open: fresh(),
    base: null, // The open one as this tab last read or wrote it.
    component: null,
    timer: null,

    // Connects the component that has the server see the open conversation.
    attach(props, trigger, watch) {
      this.component = { props, trigger }
      watch('value', () => props.value && this.receive(JSON.parse(props.value)))
    },

    // What the tab shows at first: what a link asks for, what it showed before, or the newest one.
    async restore(fragment) {
      const link = new URLSearchParams(fragment.replace(/^#/, ''))
      const id = sessionStorage.getItem(OPEN)
      if (link.get('conversation')) this.open = { ...fresh(), ...(await unpack(link.get('conversation'))) }
      else if (link.get('tab') === 'chat') this.open = fresh(link.get('system')?.toWellFormed() ?? null)
      else this.open = (id ? read(id)?.conversation : list()[0]?.conversation) ?? fresh()
      this.base = read(this.open.id)?.conversation ?? null
      sessionStorage.setItem(OPEN, this.open.id)
      falcon.list.draw()
      return this.text()
    },

    // What the server sees of the open one.
    text() {
      return JSON.stringify(this.open)
    },

    hold() {
      this.component.props.value = this.text()
      falcon.list.draw()
    },

    // What the server has made of the open conversation, or one that it has read from a file. The system prompt is
    // changed here alone: it may have been typed on meanwhile.
    receive(value) {
      if (JSON.stringify(value) === this.text()) return
      if (value.id === this.open.id) this.put({ ...value, system: this.open.system })
      else this.set(value)
    },

    // Opens or changes a conversation and keeps it, without having it drawn.
    put(conversation) {
      if (conversation.id !== this.open.id) {
        if (this.timer) this.save()
        this.base = read(conversation.id)?.conversation ?? null
      }
      this.open = conversation
      sessionStorage.setItem(OPEN, conversation.id)
      this.save()
      this.hold()
    },

    // The same, and has the server draw it.
    set(conversation) {
      const another = conversation.id !== this.open.id
      this.put(conversation)
      this.component.trigger('input')
      if (another) this.component.trigger('select')
      falcon.composer.changed()
    },

    change(fields) {
      this.set({ ...this.open, ...fields })
    },

    begin() {
      falcon.chat.quiet()
      if (this.open.messages.length || this.open.system !== null) this.set(fresh())
    },

    select(id) {
      if (falcon.chat.working || id === this.open.id) return
      falcon.chat.quiet()
      const kept = read(id)
      if (kept) this.set(kept.conversation)
      else falcon.list.draw()
    },

    // The one that was changed before the open one, or after it.
    step(by) {
      const all = this.all().map(({ conversation }) => conversation.id)
      const next = all[all.indexOf(this.open.id) + by]
      if (next) this.select(next)
    },

    // All that are kept, and the open one even before there is anything to keep.
    all() {
      const all = list()
      const at = all.findIndex(({ conversation }) => conversation.id === this.open.id)
      if (at < 0) all.unshift({ changed: Date.now(), conversation: this.open })
      return all
    },

    // Without one; the newest of the others takes the place of the open one. Gives what brings it back.
    delete(id) {
      const kept = read(id)
      if (id !== this.open.id) {
        remove(id)
        falcon.list.draw()
        return () => {
          if (kept) keep(kept)
          falcon.list.draw()
        }
      }
      const deleted = this.open
      clearTimeout(this.timer)
      this.timer = null
      remove(id)
      const next = list()[0]?.conversation ?? null
      this.base = next
      this.set(next ?? fresh())
      return () => {
        if (!falcon.chat.working) return this.set(deleted)
        keep({ changed: Date.now(), conversation: deleted }) // The one that is being answered stays open.
        falcon.list.draw()
      }
    },

    rename(id, name) {
      if (id === this.open.id) return this.change({ name })
      const kept = read(id)
      if (kept) keep({ ...kept, conversation: { ...kept.conversation, name } })
      falcon.list.draw()
    },

    // Another one with the messages up to one of this one.
    fork(id) {
      const { open } = this
      const messages = back(byId(open), id).reverse()
      this.set({ ...fresh(open.system), name: open.name, title: open.title, messages, current: id })
    },

    // A link that holds the messages that are shown, or a sentence where it would be too long.
    async share() {
      const { system, name, current, messages, title } = this.open
      const shown = back(byId({ messages }), current).reverse()
      const packed = await pack({ system, name, title, messages: shown, current })
      const link = `${location.origin}${location.pathname}#tab=chat&conversation=${packed}`
      if (link.length > LONGEST_LINK) {
        const words = falcon.say('chat.long_link', { count: link.length, most: LONGEST_LINK })
        return `<p class="linked" role="status">${words}</p>`
      }
      return falcon.offerLink(link)
    },

    // While the visitor types.
    setSystem(text) {
      this.open = { ...this.open, system: text }
      this.hold()
      this.saveSoon()
    },

    // Whether the button beside the box has something to do.
    wayToOwn() {
      return { __type__: 'update', visible: this.open.system !== null }
    },

    saveSoon() {
      this.timer ??= setTimeout(() => this.save(), SAVE_MS)
    },

    save() {
      clearTimeout(this.timer)
      this.timer = null
      const merged = merge(this.base, this.open, read(this.open.id)?.conversation)
      const others = merged.messages.length > this.open.messages.length
      this.open = merged
      if (others) this.hold()
      const kept = settled(merged)
      if (!kept.messages.length && kept.system === null && !kept.name) {
        remove(kept.id)
        this.base = null
      } else if (write(kept)) this.base = kept
      else falcon.chat.say(falcon.say('chat.no_room'))
    },

    // Another tab has kept or deleted something.
    stored(event) {
      if (!this.component || (event.key && !event.key.startsWith(PREFIX))) return
      const theirs = read(this.open.id)?.conversation
      if (event.key === PREFIX + this.open.id && theirs && !falcon.chat.working) {
        const merged = merge(this.base, this.open, theirs)
        this.base = theirs
        if (JSON.stringify(merged) !== JSON.stringify(this.open)) {
          this.open = merged
          this.hold()
          this.component.trigger('input')
        }
      }
      falcon.list.draw()
    },
  }

  // Not Gradio's own event, which tells of keys alone: of nothing that is pasted, deleted or dictated.
  addEventListener('input', ({ target }) => target.closest?.('#system-prompt') && conversations.setSystem(target.value))
  addEventListener('storage', event => conversations.stored(event))
  addEventListener('pagehide', () => conversations.timer && conversations.save())
  try {
    localStorage.removeItem('falcon-conversations') // Of an earlier version of the page.
  } catch {}

  Object.assign((window.falcon ??= {}), { conversations, merge })
})()
