// The visitor's language, before anything else of the page is there. `falcon` has the language in which the server wrote
// the page, and the words for scripts.

;(() => {
  const CHOSEN = 'falcon-language'
  const { words, language } = falcon
  const { code } = language

  // The page's address in another language.
  const address = chosen => {
    const url = new URL(location.href)
    url.searchParams.set('lang', chosen)
    return url.href
  }

  const kept = () => {
    try {
      return localStorage.getItem(CHOSEN)
    } catch {
      return null // The browser keeps nothing.
    }
  }

  const asked = new URLSearchParams(location.search).get('lang')
  if (!(asked in language.names) && kept() !== code && kept() in language.names) location.replace(address(kept()))

  // Gradio's own words follow the browser's language.
  Object.defineProperty(navigator, 'language', { get: () => code })
  Object.defineProperty(navigator, 'languages', { get: () => [code] })

  // Digits as everywhere on the page.
  language.locale = `${code}-u-nu-latn`
  const numbers = new Intl.NumberFormat(language.locale)
  const plurals = new Intl.PluralRules(code)

  Object.assign(language, {
    // Has the page in another language, now and when it is opened again.
    choose(chosen) {
      try {
        localStorage.setItem(CHOSEN, chosen)
      } catch {}
      location.replace(address(chosen))
    },
  })

  // The words of a key, with values in their places: numbers as the language writes them, anything else set apart where
  // its direction may be another. Which plural form they have is told by the value `count`.
  falcon.say = (key, values = {}) => {
    const said = words[key]
    const text = typeof said === 'string' ? said : (said[plurals.select(values.count)] ?? said.other)
    return text.replace(/\{(\w+)\}/g, (_, name) => {
      const value = values[name]
      if (typeof value === 'number') return numbers.format(value)
      return document.documentElement.dir === 'rtl' ? `\u2068${value}\u2069` : value
    })
  }
})()
