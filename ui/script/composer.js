// What is on its way to the model: files beside the message, messages that wait for their turn, and how large it all is.

;(() => {
  const MEASURE_MS = 400
  const box = () => document.querySelector('#chat-message textarea')

  const composer = {
    element: null,
    files: [], // Attached, as text.
    waiting: [], // Messages that follow when the server has done what it is at.
    held: false, // They do not, since that one failed or was stopped.
    measure: null,
    timer: null,

    attach(element) {
      this.element = element
      element.addEventListener('click', ({ target }) => {
        const { kind, place } = target.closest('button')?.dataset ?? {}
        if (kind === 'file') this.setFiles(this.files.filter((_, i) => i !== +place))
        if (kind === 'message') this.takeBack(+place)
      })
      this.draw()
    },

    // The server has read files.
    watchFiles(props, watch) {
      watch('value', () => props.value?.files && this.setFiles([...this.files, ...props.value.files]))
    },

    setFiles(files) {
      this.files = files
      this.draw()
    },

    wait(text) {
      this.held = false
      this.waiting.push({ text, attachments: this.files })
      this.draw()
    },

    hold() {
      this.held = true
    },

    // An answer is over: the turn of whoever waits.
    next() {
      this.changed()
      if (falcon.chat.working || this.held || !this.waiting.length) return
      const [first, ...others] = this.waiting
      if (!falcon.chat.start({ do: 'ask', ...first })) return
      this.waiting = others
      this.draw()
    },

    takeBack(place) {
      const [{ text, attachments }] = this.waiting.splice(place, 1)
      falcon.fill([text, box().value].filter(Boolean).join('\n\n'))
      this.setFiles([...attachments, ...this.files])
    },

    draw() {
      const chip = (kind, place, words, label) => {
        const chip = Object.assign(document.createElement('span'), { className: `chip ${kind}` })
        const text = Object.assign(document.createElement('span'), { textContent: words, dir: 'auto' })
        const button = Object.assign(document.createElement('button'), { type: 'button', textContent: '×' })
        button.setAttribute('aria-label', label)
        Object.assign(button.dataset, { kind, place })
        chip.append(text, button)
        return chip
      }
      const size = ({ tokens }) => (tokens ? ` · ${falcon.say('message.tokens', { count: tokens })}` : '')
      const waiting = this.waiting.map(({ text }, i) =>
        chip('message', i, falcon.say('composer.next', { text }), falcon.say('composer.take_back')),
      )
      const files = this.files.map((file, i) =>
        chip('file', i, `${file.name}${size(file)}`, falcon.say('composer.remove', { name: file.name })),
      )
      this.element?.replaceChildren(...waiting, ...files)
      this.changed()
    },

    // Send has something to do, or not.
    lockSend() {
      const empty = !box()?.value.trim() && !this.files.length
      const send = document.getElementById('chat-send')
      if (send && send.disabled !== empty) send.disabled = empty
    },

    // Something about the message, or about what stands before it, is another than before.
    changed() {
      this.lockSend()
      clearTimeout(this.timer)
      this.timer = setTimeout(() => {
        const attached = this.files.reduce((sum, { tokens }) => sum + tokens, 0)
        this.measure?.('input', { text: box()?.value ?? '', attached })
      }, MEASURE_MS)
    },
  }

  document.addEventListener('input', ({ target }) => target.closest?.('#chat-message') && composer.changed())
  // Gradio draws the button anew after each run, and fills the box by itself when the page opens.
  const changes = { childList: true, subtree: true, attributes: true, attributeFilter: ['data-opened', 'disabled'] }
  new MutationObserver(() => composer.lockSend()).observe(document, changes)

  Object.assign((window.falcon ??= {}), { composer })
})()
