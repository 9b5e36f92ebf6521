// Keys that work everywhere in the page; `ui/keys.py` lists them.

;(() => {
  const WRITES = 'input:not([type=range], [type=checkbox], [type=radio]), textarea, select, [contenteditable]'
  const openChat = () => document.querySelector('#tabs [role=tablist] [role=tab]')?.click()
  const KEYS = {
    '/': () => {
      const box = [...document.querySelectorAll('[role=tabpanel] textarea')].filter(area => area.offsetParent)
      ;(box.find(area => area.closest('#chat-message')) ?? box[0])?.focus()
    },
    '?': () => document.querySelector('#keys')?.togglePopover(),
    'Control+Shift+O': () => {
      openChat()
      if (!falcon.chat.working) falcon.list.begin()
    },
    'Control+K': () => {
      openChat()
      falcon.panels.set('panel', true)
      document.querySelector('#conversations input[type=search]')?.focus()
    },
    'Alt+ArrowDown': () => falcon.conversations.step(1),
    'Alt+ArrowUp': () => falcon.conversations.step(-1),
  }
  document.addEventListener('keydown', event => {
    if (event.isComposing || event.repeat) return
    const key = event.key.length === 1 && (event.ctrlKey || event.metaKey) ? event.key.toUpperCase() : event.key
    const held = [
      (event.ctrlKey || event.metaKey) && 'Control',
      event.altKey && 'Alt',
      event.shiftKey && key !== '?' && key !== '/' && 'Shift', // Where a layout has them is its own affair.
    ]
    const action = KEYS[[...held, key].filter(Boolean).join('+')]
    const alone = !held[0] && !held[1]
    if (!action || (alone && event.target.closest?.(WRITES)) || document.querySelector('dialog[open]')) return
    event.preventDefault()
    action()
  })
})()
