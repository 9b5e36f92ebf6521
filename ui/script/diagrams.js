// Diagrams in the language of Mermaid, which Gradio's page brings: drawn when an answer is whole, above their code.

;(() => {
  const CODE = '.answer .code[data-language=mermaid]:not([data-drawn])'
  let mermaid = null
  let drawn = 0

  const draw = async code => {
    code.dataset.drawn = ''
    const dark = document.body.classList.contains('dark')
    try {
      mermaid ??= (await import(new URL(`assets/${falcon.mermaid}`, document.baseURI))).default
      mermaid.initialize({
        startOnLoad: false,
        securityLevel: 'strict',
        htmlLabels: false,
        flowchart: { htmlLabels: false },
        theme: dark ? 'dark' : 'default',
      })
      const { svg } = await mermaid.render(`diagram-${drawn++}`, code.querySelector('pre').textContent)
      // As a picture, in which nothing runs and which loads nothing.
      const picture = Object.assign(new Image(), { className: 'diagram', alt: falcon.say('answers.diagram') })
      picture.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`
      code.before(picture)
    } catch {
      document.querySelector(`#ddiagram-${drawn - 1}`)?.remove() // What Mermaid leaves where it fails.
    }
  }

  new MutationObserver(() => {
    for (const code of document.querySelectorAll(CODE)) {
      const panel = code.closest('[role=tabpanel]')
      if (!code.closest('#live') && !panel?.querySelector('.line.busy')) draw(code)
    }
  }).observe(document, { childList: true, subtree: true, attributes: true, attributeFilter: ['class'] })
})()
