"""How the page looks: colours and type for Gradio's components. `style` holds what a theme cannot say."""

import gradio as gr
from gradio.themes.utils.colors import Color
from gradio.themes.utils.fonts import LocalFont

INDIGO = Color(
    name="falcon_indigo",
    c50="#eff1fb",
    c100="#dfe3f7",
    c200="#c2c9ef",
    c300="#9ba6e2",
    c400="#7481d1",
    c500="#5461bb",
    c600="#3e4a9f",
    c700="#303a80",
    c800="#262f66",
    c900="#1d2450",
    c950="#121735",
)
AMBER = Color(
    name="falcon_amber",
    c50="#fff8ea",
    c100="#feedc8",
    c200="#fcdb92",
    c300="#f8c568",
    c400="#f2b34c",
    c500="#e09a27",
    c600="#b97716",
    c700="#8f5912",
    c800="#6d4413",
    c900="#553613",
    c950="#2f1c07",
)
SLATE = Color(
    name="falcon_slate",
    c50="#f7f7fb",
    c100="#eeeff6",
    c200="#e0e2ee",
    c300="#c9cddf",
    c400="#9aa1bd",
    c500="#6b7393",
    c600="#535b79",
    c700="#3a4160",
    c800="#1d2238",
    c900="#141829",
    c950="#0d101d",
)
DAY_AND_NIGHT = {
    "body_background_fill": ("*neutral_50", "*neutral_950"),
    "body_text_color": ("*neutral_900", "*neutral_100"),
    "body_text_color_subdued": ("*neutral_600", "*neutral_400"),
    "background_fill_primary": ("white", "*neutral_900"),
    "background_fill_secondary": ("*neutral_50", "*neutral_800"),
    "border_color_primary": ("*neutral_200", "*neutral_700"),
    "border_color_accent": ("*primary_300", "*secondary_500"),
    "color_accent_soft": ("*primary_50", "*neutral_800"),
    "link_text_color": ("*primary_600", "*secondary_300"),
    "block_background_fill": ("white", "*neutral_900"),
    "block_border_color": ("*neutral_200", "*neutral_700"),
    "block_info_text_color": ("*neutral_600", "*neutral_400"),
    "block_label_text_color": ("*neutral_600", "*neutral_300"),
    "block_title_text_color": ("*neutral_800", "*neutral_200"),
    "input_background_fill": ("white", "*neutral_900"),
    "input_border_color": ("*neutral_300", "*neutral_700"),
    "input_border_color_focus": ("*primary_500", "*secondary_400"),
    "input_placeholder_color": ("*neutral_500", "*neutral_400"),
    "slider_color": ("*primary_600", "*secondary_400"),
    "code_background_fill": ("*neutral_100", "*neutral_950"),
    "button_primary_background_fill": ("*primary_700", "*secondary_400"),
    "button_primary_background_fill_hover": ("*primary_600", "*secondary_300"),
    "button_primary_border_color": ("transparent", "transparent"),
    "button_primary_text_color": ("white", "*secondary_950"),
    "button_secondary_background_fill": ("white", "*neutral_900"),
    "button_secondary_background_fill_hover": ("*neutral_100", "*neutral_800"),
    "button_secondary_border_color": ("*neutral_300", "*neutral_700"),
    "button_secondary_text_color": ("*neutral_800", "*neutral_100"),
    "button_cancel_background_fill": ("*secondary_400", "*secondary_400"),
    "button_cancel_background_fill_hover": ("*secondary_300", "*secondary_300"),
    "button_cancel_text_color": ("*secondary_950", "*secondary_950"),
}
"""What is another colour in the dark."""
ALWAYS = {
    "color_accent": "*secondary_500",
    "block_title_text_weight": "600",
    "block_title_text_size": "*text_sm",
    "input_border_width": "1px",
    "button_large_text_size": "*text_md",
    "button_small_text_weight": "500",
    "button_border_width": "1px",
}


def build() -> gr.themes.Base:
    """Indigo on a cool paper, amber where something happens; in the dark the two change places."""
    theme = gr.themes.Base(
        primary_hue=INDIGO,
        secondary_hue=AMBER,
        neutral_hue=SLATE,
        radius_size=gr.themes.sizes.radius_lg,
        font=[LocalFont("IBM Plex Sans", weights=(400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
    )
    day = {name: colours[0] for name, colours in DAY_AND_NIGHT.items()}
    night = {f"{name}_dark": colours[1] for name, colours in DAY_AND_NIGHT.items()}
    return theme.set(**ALWAYS, **day, **night)
