// What only the browser can do: keys, links, files to keep, focus, and what screen readers are told.

const falcon = {
  // Copies a link that reopens `tab` with these values; gives what is shown in the page.
  share(tab, names, values) {
    const parts = new URLSearchParams({ tab })
    names.forEach((name, i) => values[i] !== '' && values[i] != null && parts.set(name, values[i]))
    const link = `${location.origin}${location.pathname}#${parts}`
    navigator.clipboard?.writeText(link).catch(() => {})
    const anchor = document.createElement('a')
    anchor.href = link
    anchor.textContent = link.length > 120 ? `${link.slice(0, 120)}…` : link
    return `<p class="linked" role="status">Copied: ${anchor.outerHTML}</p>`
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
}
window.falcon = falcon

const openTab = () => [...document.querySelectorAll('[role=tabpanel]')].find(panel => panel.offsetParent)

document.addEventListener('keydown', event => {
  if (event.key === 'Escape') openTab()?.querySelector('.stop-run')?.click()
})

// What streams is a live region, busy while its run goes on: screen readers then read it when it is whole.
const LIVE = '#generate-text, #conversation, #instruct-answer, .compare-answer'
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
