// What only the browser can do: keys, links, files to keep, focus, and what screen readers are told.

Object.assign((window.falcon ??= {}), {
  // Copies a link that reopens `tab` with these values; gives what is shown in the page.
  async share(tab, names, values) {
    const parts = new URLSearchParams({ tab })
    names.forEach((name, i) => values[i] !== '' && values[i] != null && parts.set(name, values[i]))
    const link = `${location.origin}${location.pathname}#${parts}`
    let said = 'Copied'
    try {
      await navigator.clipboard.writeText(link)
    } catch {
      said = 'Copy this link' // The browser does not let pages do it: there is no https, or the visitor said no.
    }
    const anchor = document.createElement('a')
    anchor.href = link
    anchor.textContent = link.length > 120 ? `${link.slice(0, 120)}…` : link
    return `<p class="linked" role="status">${said}: ${anchor.outerHTML}</p>`
  },

  // Lets the visitor keep a text as a file.
  save(name, text) {
    const anchor = document.createElement('a')
    anchor.href = URL.createObjectURL(new Blob([text], { type: 'text/plain' }))
    anchor.download = name
    anchor.click()
    setTimeout(() => URL.revokeObjectURL(anchor.href), 1000)
  },

  // After a run the button that had the focus may be gone: the next thing to use gets it, unless something else has it.
  focusAgain(start) {
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

document.addEventListener('keydown', event => {
  if (event.key === 'Escape') openTab()?.querySelector('.stop-run')?.click()
})

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

// The conversation stays at its end while it grows, unless the visitor has scrolled back.
const follow = talk => {
  let atEnd = true
  talk.addEventListener('scroll', () => {
    atEnd = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60
  })
  const grown = new ResizeObserver(() => {
    if (atEnd) talk.scrollTop = talk.scrollHeight
  })
  for (const part of talk.children) grown.observe(part)
}
const found = new MutationObserver(() => {
  const talk = document.getElementById('talk')
  if (!talk) return
  found.disconnect()
  follow(talk)
})
found.observe(document, { childList: true, subtree: true })
