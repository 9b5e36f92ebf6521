// What only the browser can do: keys, links, drafts, files to keep, focus, and what screen readers are told.

const DRAFTS = ['generate-text', 'chat-message', 'instruction', 'context', 'compare-prompt']

Object.assign((window.falcon ??= {}), {
  // What the page opens with: the link, and how this tab of the browser was left.
  async opening() {
    const drafts = Object.fromEntries(DRAFTS.map(id => [id, sessionStorage.getItem(`falcon-draft:${id}`) ?? '']))
    const kept = { fragment: location.hash, tab: sessionStorage.getItem('falcon-tab'), drafts }
    return [kept, await falcon.conversations.restore(location.hash)]
  },

  // The page is as it was left, or as the link says.
  opened() {
    document.documentElement.dataset.opened = ''
    falcon.chat.opened()
  },

  // A run has begun. What a link brought is taken once: from here, the page goes on from where it is.
  begun() {
    falcon.chat.begun()
    if (location.hash) history.replaceState(history.state, '', location.pathname + location.search)
  },

  // A run that the server could not begin; gives the line that says so.
  notBegun(line) {
    falcon.chat.failed()
    return line
  },

  // Keeps what stands in a box for when the page is opened again. A message that is on its way counts as still there.
  keepDraft(id) {
    const area = document.querySelector(`#${id} textarea`)
    if (!area) return
    const sent = id === 'chat-message' && falcon.chat.run?.begun === false ? falcon.chat.run.action.text : ''
    sessionStorage.setItem(`falcon-draft:${id}`, area.value || sent || '')
  },

  // A link that reopens `tab` with these values.
  async share(tab, names, values) {
    const parts = new URLSearchParams({ tab })
    names.forEach((name, i) => values[i] !== '' && values[i] != null && parts.set(name, values[i]))
    const { system } = falcon.conversations.open
    if (tab === 'chat' && system !== null) parts.set('system', system) // Also an empty one: it stands for none.
    return falcon.offerLink(`${location.origin}${location.pathname}#${parts}`)
  },

  // Copies a link; gives what is shown in the page.
  async offerLink(link) {
    let copied = true
    try {
      await navigator.clipboard.writeText(link)
    } catch {
      copied = false // The browser does not let pages do it: there is no https, or the visitor said no.
    }
    const anchor = document.createElement('a')
    anchor.href = link
    anchor.textContent = link.length > 120 ? `${link.slice(0, 120)}…` : link
    const told = { link: anchor.outerHTML }
    const said = copied ? falcon.say('link.copied', told) : falcon.say('link.copy', told)
    return `<p class="linked" role="status">${said}</p>`
  },

  // Brings what has just been asked for into view, where it came below the window.
  reveal(id) {
    requestAnimationFrame(() => document.getElementById(id)?.scrollIntoView({ block: 'nearest' }))
  },

  // Lets the visitor keep a text as a file.
  save(name, text) {
    const anchor = document.createElement('a')
    anchor.href = URL.createObjectURL(new Blob([text], { type: 'text/plain' }))
    anchor.download = name
    anchor.click()
    setTimeout(() => URL.revokeObjectURL(anchor.href), 1000)
  },

  // A run is over. The button that had the focus may be gone: the next thing to use gets it, unless something else has.
  over(start) {
    document.querySelector('#sentence .answering')?.remove()
    if (start === 'chat-send') falcon.composer.next()
    if (document.activeElement && document.activeElement !== document.body) return
    const box = { 'chat-send': '#chat-message textarea' }[start]
    document.querySelector(box ?? `#${start}`)?.focus({ preventScroll: true })
  },

  // A button that is drawn anew after it was pressed keeps the focus, or one beside it gets it.
  returnFocus(element, label) {
    const drawn = new MutationObserver(() => {
      const buttons = [...element.querySelectorAll('button:enabled')]
      ;(buttons.find(button => button.getAttribute('aria-label') === label) ?? buttons[0])?.focus()
      drawn.disconnect()
    })
    drawn.observe(element, { childList: true, subtree: true })
  },
})

const openTab = () => [...document.querySelectorAll('[role=tabpanel]')].find(panel => panel.offsetParent)

// Escape stops a run, but first it closes what is open: an input method's window, a list, a dialog, an edited message.
const CLOSES = '[aria-expanded=true]:is(input, [role=combobox], [role=listbox]), .edit, .rename, dialog, :popover-open'
document.addEventListener(
  'keydown',
  event => {
    if (event.key !== 'Escape' || event.isComposing || event.keyCode === 229 || event.target.closest(CLOSES)) return
    if (document.querySelector('dialog[open], :popover-open') || falcon.panels.closeOver()) return
    openTab()?.querySelector('.stop-run')?.click()
  },
  { capture: true }, // Before what is open closes and looks as if it had not been.
)

// Half a surrogate pair, which no text can hold, becomes what stands for the unreadable, before anything takes it.
document.addEventListener(
  'input',
  ({ target }) => {
    if ('value' in target && target.value.isWellFormed?.() === false) target.value = target.value.toWellFormed()
  },
  { capture: true },
)

document.addEventListener('input', event => {
  const id = event.target.closest?.(DRAFTS.map(id => `#${id}`).join())?.id
  if (id) falcon.keepDraft(id)
})
addEventListener('pagehide', () => {
  DRAFTS.forEach(falcon.keepDraft)
  const tab = document.querySelector('#tabs [role=tab][aria-selected=true]')
  if (tab) sessionStorage.setItem('falcon-tab', tab.dataset.tabId)
})

// A link to this page that is followed in this very tab, as one that the page itself shows.
addEventListener('hashchange', () => location.hash.startsWith('#tab=') && location.reload())

// What streams is a live region, busy while its run goes on: screen readers then read it when it is whole.
const LIVE = '#generate-text, #live, #instruct-answer, .block.compare-answer'
new MutationObserver(() => {
  for (const panel of document.querySelectorAll('[role=tabpanel]')) {
    const busy = String(panel.querySelector('.line.busy') !== null)
    for (const region of panel.querySelectorAll(LIVE)) {
      if (region.getAttribute('aria-busy') === busy) continue
      region.setAttribute('aria-live', 'polite')
      region.setAttribute('aria-busy', busy)
    }
  }
}).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ['class'] })

// Which tab is open, for what stands beside the tabs.
new MutationObserver(() => {
  const tab = document.querySelector('#tabs [role=tab][aria-selected=true][data-tab-id]')?.dataset.tabId
  if (tab && document.documentElement.dataset.tab !== tab) document.documentElement.dataset.tab = tab
}).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ['aria-selected'] })
