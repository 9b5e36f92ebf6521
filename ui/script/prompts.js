// System prompts of the visitor's own, beside those that the page brings: the browser keeps them.

;(() => {
  const KEY = 'falcon-prompts'
  const TITLE_LENGTH = 40
  const MOST = 50

  // All that a hand may have left there is possible.
  const own = () => {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY))
      return Array.isArray(kept) ? kept.filter(prompt => typeof prompt === 'string' && prompt.trim()) : []
    } catch {
      return []
    }
  }
  const keep = prompts => {
    try {
      localStorage.setItem(KEY, JSON.stringify(prompts.slice(0, MOST)))
    } catch {
      falcon.toast(falcon.say('prompts.no_room'))
    }
  }
  const titled = prompt => {
    const line = prompt.trim().replace(/\s+/g, ' ')
    return `★ ${line.length > TITLE_LENGTH ? `${line.slice(0, TITLE_LENGTH).toWellFormed()}…` : line}`
  }
  // Each with its title, which is told apart from others that begin alike.
  const offered = () => {
    const times = {}
    return own().map(prompt => {
      const title = titled(prompt)
      times[title] = (times[title] ?? 0) + 1
      return [times[title] > 1 ? `${title} (${times[title]})` : title, prompt]
    })
  }
  const current = () => falcon.conversations.open.system ?? ''
  const update = fields => ({ __type__: 'update', ...fields })

  Object.assign((window.falcon ??= {}), {
    prompts: {
      // What the list offers, which of it is in the box, if any, and whether that can be forgotten.
      shown(names, personas) {
        const { system } = falcon.conversations.open
        const kept = offered().find(([, prompt]) => prompt === system)
        const value = kept ? kept[0] : Object.keys(personas).find(name => personas[name] === system)
        const choices = [...names, ...offered().map(([title]) => [title, title])]
        return [update({ choices, value: value ?? null }), update({ visible: Boolean(kept) })]
      },
      use(name, personas) {
        const system = name in personas ? personas[name] : offered().find(([title]) => title === name)?.[1]
        if (system !== undefined) falcon.conversations.change({ system })
      },
      save(names, personas) {
        const prompt = current()
        if (prompt.trim()) keep([prompt, ...own().filter(other => other !== prompt)])
        else falcon.toast(falcon.say('prompts.nothing'))
        return this.shown(names, personas)
      },
      forget(names, personas) {
        keep(own().filter(prompt => prompt !== current()))
        return this.shown(names, personas)
      },
    },
  })
})()
