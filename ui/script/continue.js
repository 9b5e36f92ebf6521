// The statistics line's Continue presses the one of its tab.

document.addEventListener('click', event => {
  const button = event.target.closest?.('.continue-run')
  if (button?.closest('#talking')) return falcon.chat.resume()
  button?.closest('[role=tabpanel]')?.querySelector('button.continue')?.click()
})
