// What can be opened beside the page or over it: views, the panels at its sides, and how all of it looks.

;(() => {
  const root = document.documentElement
  const WIDE = matchMedia('(width >= 1000px)')
  const kept = (name, value) => {
    try {
      return value === undefined ? localStorage.getItem(name) : localStorage.setItem(name, value)
    } catch {} // The visitor allows no storage.
  }

  // Light or dark: as the system has it, unless the visitor has chosen. Gradio sets the class when it starts and when the
  // system changes.
  const DARK = matchMedia('(prefers-color-scheme: dark)')
  const appearance = () => kept('falcon-appearance') ?? 'system'
  const dark = () => (appearance() === 'system' ? DARK.matches : appearance() === 'dark')
  const dress = () => {
    if (document.body.classList.contains('dark') !== dark()) document.body.classList.toggle('dark', dark())
    root.style.colorScheme = dark() ? 'dark' : 'light'
  }
  const dressed = () => {
    if (new URLSearchParams(location.search).has('__theme')) return // The address says how.
    new MutationObserver(dress).observe(document.body, { attributes: true, attributeFilter: ['class'] })
    dress()
  }
  if (document.body) dressed()
  else document.addEventListener('DOMContentLoaded', dressed)

  // The panels: conversations and settings. On a narrow screen each lies over the page and is closed first.
  const panels = {
    open(name) {
      return root.dataset[name] === 'open'
    },
    set(name, open, keep = WIDE.matches) {
      root.dataset[name] = open ? 'open' : 'closed'
      if (keep) kept(`falcon-${name}`, root.dataset[name])
      this.tell(name)
    },
    // Has the buttons of a panel say whether it is open.
    tell(name) {
      const open = this.open(name)
      for (const button of document.querySelectorAll(`[data-do=${name}]`)) button.setAttribute('aria-expanded', open)
    },
    toggle(name) {
      this.set(name, !this.open(name))
      if (this.open(name)) document.querySelector(`#${name} :is(input, button, textarea)`)?.focus({ preventScroll: true })
    },
    // Closes what lies over the page; gives whether there was anything.
    closeOver() {
      const over = WIDE.matches ? [] : ['panel', 'settings'].filter(name => this.open(name))
      for (const name of over) {
        this.set(name, false)
        document.querySelector(`[data-do=${name}]`)?.focus()
      }
      return over.length > 0
    },
    start() {
      this.set('panel', WIDE.matches && kept('falcon-panel') !== 'closed', false)
      this.set('settings', WIDE.matches && kept('falcon-settings') === 'open', false)
    },
  }
  panels.start()
  WIDE.addEventListener('change', () => panels.start())
  document.addEventListener('click', ({ target }) => {
    const button = target.closest?.('[data-do=panel], [data-do=settings]')
    if (button) return panels.toggle(button.dataset.do)
    // Beside a panel that lies over the page.
    if (!target.closest?.('#panel, #settings') && document.contains(target)) panels.closeOver()
  })

  Object.assign((window.falcon ??= {}), {
    panels,

    // Makes a view of an element. Told when it opens.
    view(element, trigger) {
      element.popover = 'auto'
      element.setAttribute('role', 'dialog')
      element.setAttribute('aria-label', element.querySelector('h2').textContent)
      element.addEventListener('toggle', ({ newState }) => newState === 'open' && trigger('click'))
    },

    // Connects what stands at the end of the bar.
    tools(element) {
      const choice = element.querySelector('#appearance')
      choice.value = appearance()
      choice.onchange = () => {
        kept('falcon-appearance', choice.value)
        dress()
      }
      const language = element.querySelector('#language')
      language.value = falcon.language.code
      language.onchange = () => falcon.language.choose(language.value)
      panels.tell('settings')
    },

    // Says something for ten seconds, with one thing that can be done about it meanwhile.
    toast(sentence, label, action) {
      document.querySelector('#toast')?.remove()
      const toast = Object.assign(document.createElement('div'), { id: 'toast', textContent: sentence })
      toast.setAttribute('role', 'status')
      const over = () => toast.remove()
      if (label) {
        const button = Object.assign(document.createElement('button'), { type: 'button', textContent: label })
        button.onclick = () => {
          over()
          action()
        }
        toast.append(button)
      }
      document.querySelector('main').append(toast)
      setTimeout(over, 10_000)
    },
  })
})()
