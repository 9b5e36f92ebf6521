// What answers need of the browser: Copy, and thoughts that stay open while more of them come.

Object.assign((window.falcon ??= {}), {
  // Copies a text as it is.
  async copyText(text) {
    try {
      await navigator.clipboard.writeText(text)
    } catch {
      // Without https there is no clipboard to write to: an old way still works.
      const area = Object.assign(document.createElement('textarea'), { value: text })
      document.body.append(area)
      area.select()
      document.execCommand('copy')
      area.remove()
    }
  },

  // The same, and says so on the button.
  async copy(button, text) {
    const label = button.textContent
    await falcon.copyText(text)
    button.textContent = falcon.say('answers.copied')
    setTimeout(() => (button.textContent = label), 1200)
  },
})

{
  document.addEventListener('click', event => {
    const button = event.target.closest?.('.copy-code, .copy-answer')
    if (!button) return
    const text = button.classList.contains('copy-code')
      ? button.closest('.code').querySelector('pre').textContent
      : button.closest('.block').querySelector('.answer[data-text]')?.dataset.text
    if (text) falcon.copy(button, text)
  })

  // Each piece of an answer is drawn as the server knows it, with its thoughts folded.
  const unfolded = new WeakSet()
  document.addEventListener('click', event => {
    const thoughts = event.target.closest?.('details:is(.thoughts, .figures) > summary')?.parentElement
    if (thoughts) unfolded[thoughts.open ? 'delete' : 'add'](thoughts)
  })
  new MutationObserver(changes => {
    for (const { target } of changes) if (unfolded.has(target) && !target.open) target.open = true
  }).observe(document, { subtree: true, attributes: true, attributeFilter: ['open'] })
}
