"""What `style` and `script` take from Gradio's markup that its public API does not promise: its own classes.

Where Gradio has a way (themes, `elem_id`, `elem_classes`), that is used. Tests hold every class in the styles to be of
the page or of this list, and look whether each of these is in the page of the pinned release.
"""

CLASSES = {
    "app": "the page below the bar of the browser",
    "block": "a component's box",
    "column": "a gr.Column, and the page's own",
    "divider": "between the links of the footer",
    "form": "a box around fields that follow each other",
    "gr-accordion": "a gr.Accordion",
    "gradio-container": "the whole page",
    "html-container": "the inside of a gr.HTML or gr.Markdown",
    "label-wrap": "an accordion's heading",
    "main": "what is not the footer",
    "or": "a word in the place for a file",
    "primary": "a button's variant",
    "prose": "the text of a gr.Markdown or gr.HTML",
    "selected": "the chosen one of tabs and of a gr.Radio",
    "tab-container": "the list of tabs",
    "tabitem": "what is in a tab",
    "wrap": "the choices of a gr.Radio, and the place for a file",
}
