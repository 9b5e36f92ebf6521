// What people write has the direction of its language: Arabic from the right.

{
  const direct = element => {
    element.dir = 'auto' // In the place of Gradio's ltr.
  }
  const FIELDS = 'textarea, input:not([type]), input[type=text], input[type=search]'
  new MutationObserver(changes => {
    for (const { addedNodes } of changes) {
      for (const node of addedNodes) {
        if (node.nodeType !== Node.ELEMENT_NODE) continue
        if (node.matches(FIELDS)) direct(node)
        node.querySelectorAll(FIELDS).forEach(direct)
      }
    }
  }).observe(document, { childList: true, subtree: true })
}
