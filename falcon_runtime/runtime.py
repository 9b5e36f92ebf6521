"""FalconRuntime: a model by name or folder, and text out of it, piece by piece.

Thin: it provisions and loads, renders the prompt, hands it to the engine and turns the engine's steps into text.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

from .engine.client import Engine
from .errors import FalconError, InvalidRequest, RuntimeClosed
from .generation import Generation
from .limits import RequestLimits
from .models.backends import check_backend, check_convertible
from .models.catalog import CatalogEntry
from .models.defaults import Defaults, defaults_of
from .models.drafts import DraftWish, default_draft
from .models.library import Model, default_models_dir, find_model
from .models.manifest import Backend
from .models.provision import Provisioning
from .models.reading import AnyManifest, Recipe, read_model
from .models.stock.manifest import REMARKS
from .sampling import SamplingParams
from .status import Report, Status
from .system.machine import proc_bytes
from .text import templates
from .text.calls import NO_CALLS, Calling
from .text.prompt import check_known, check_tokens, encode_chat, encode_text, instruction_messages
from .text.tokenization import Tokenization, tokenization_of
from .text.tools import Tools
from .text.transcripts import Record
from .text.turns import Message
from .text.well_known import BorrowedTemplate

RESTARTING = "The engine stopped and is restarting"
COMPILING = "Compiling the engine for this processor, once"


class FalconRuntime:
    """One model. Making one is instant; the model is provisioned (downloaded, converted) and loaded at first use.

    `model` is a name of the catalogue, alone or with a recipe (`NAME:int8`), or the folder of a converted model (None:
    FALCON_MODEL, else the embedded starter model), `models_dir` where converted models are kept (None:
    FALCON_MODELS_DIR, else `models` beside the package), `threads` how many the engine uses (None: the CPUs it may
    use), `limits` what one request may take. Safe to use from several threads.

    `draft` is the converted model that drafts for this one, which changes how fast answers come, and nothing in them: a
    name or folder, "none", or "auto" for the one that the catalogue has for it, if that is converted and fits in memory
    (None: FALCON_DRAFT, else "auto"). One that is named and cannot draft is an error, unless `draft_required` is False.

    `chat_template` is for a model that has none of its own: the name of a well-known one (`WELL_KNOWN`), or a file.

    Errors: UnknownModel; the others come with `load` or the first request.
    """

    def __init__(
        self,
        model: str | None = None,
        models_dir: str | Path | None = None,
        backend: Backend = "xnnpack",
        threads: int | None = None,
        limits: RequestLimits | None = None,
        draft: str | None = None,
        draft_required: bool = True,
        chat_template: str | None = None,
    ):
        self._limits, self._chat_template = limits or RequestLimits(), chat_template
        folder = Path(models_dir) if models_dir else default_models_dir()
        self._model: Model = find_model(model, folder)
        self._backend: Backend = backend
        wish = DraftWish(draft or default_draft(), self._model, folder, draft_required)
        self._engine = Engine(self._model.folder, threads, wish)
        self._status = Status()
        self._loading = threading.Lock()
        self._manifest: AnyManifest | None = None
        self._tokenization: Tokenization | None = None
        self._provisioning: Provisioning | None = None
        self._closed = False

    def __enter__(self) -> "FalconRuntime":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def title(self) -> str:
        return self._model.title

    @property
    def manifest(self) -> AnyManifest | None:
        """What the model says of itself, or what was told from its program; None until it is loaded."""
        return self._manifest

    @property
    def description(self) -> str:
        """Recipe, context, slots and draft model in a few words; empty until the model is loaded."""
        m = self._manifest
        if not m:
            return ""
        slots, draft = f" · {m.slots} at once" * (m.slots > 1), f" · {self.draft} drafts" if self.draft else ""
        remarks = "".join(f" · {REMARKS[remark]}" for remark in m.remarks)
        return f"{m.recipe} · {m.context:,} tokens of context{slots}{draft}{remarks}"

    @property
    def draft(self) -> str | None:
        """The title of the draft model; None where none is loaded."""
        return self._engine.draft.manifest.title if self._engine.draft else None

    @property
    def draft_problem(self) -> str | None:
        """Why the model answers without the draft model that there might be, in a sentence."""
        return self._engine.draft_problem

    @property
    def recipe(self) -> Recipe | None:
        """How the model's weights are stored, or will be; None where the folder is no converted model."""
        facts = self._facts
        return facts.recipe if facts else None

    @property
    def memory_bytes(self) -> int:
        """About what the model takes when it is loaded, with its draft model once there is one; 0 where the folder is
        no converted model."""
        facts, draft = self._facts, self._engine.draft
        return (facts.memory_bytes if facts else 0) + (draft.manifest.draft_bytes if draft else 0)

    @property
    def slots(self) -> int | None:
        """How many requests run at once, the others waiting; None until the model is loaded."""
        return self._manifest.slots if self._manifest else None

    @property
    def context(self) -> int | None:
        """Tokens that prompt and answer have together; None until the model is loaded."""
        return self._manifest.context if self._manifest else None

    @property
    def borrowed_template(self) -> BorrowedTemplate | None:
        """The choice of a chat template, where the loaded model has none of its own."""
        return self._tokenization.borrowed_template if self._tokenization else None

    @property
    def defaults(self) -> Defaults:
        """What the model is used with unless something else is asked for."""
        return defaults_of(self._model.known, self._manifest or self._model.manifest())

    @property
    def forwards(self) -> Mapping[int, float]:
        """Seconds of forwards by their tokens, as measured when the model was loaded; empty until then."""
        return self._engine.forwards

    @property
    def engine_pid(self) -> int | None:
        """The id of the engine's process, which may have ended; None before its first start."""
        return self._engine.pid

    @property
    def resident_bytes(self) -> int:
        """Bytes of memory that the engine's process has now, which is less than `memory_bytes` until its KV caches are
        full; 0 while there is none."""
        return proc_bytes(f"{self.engine_pid}/status", "VmRSS") or 0

    @property
    def restarted_at(self) -> float | None:
        """`time.monotonic()` when the engine was last started again after it had ended; None if never."""
        return self._engine.restarted_at

    @property
    def needs_provisioning(self) -> bool:
        """Whether the model must be downloaded and converted before it can be loaded: minutes, not seconds."""
        return self._model.needs_provisioning

    @property
    def status(self) -> Status:
        """Where the model is on its way, at this moment."""
        if self._status.state == "ready" and not self._engine.alive:
            if self._engine.reviving:
                pause = self._engine.pause_s
                when = f" in {pause:.0f} s" if pause >= 1 else ""
                return Status("loading", f"{RESTARTING}{when}")
            return Status("idle", "The engine stopped; it restarts with the next request")
        return self._status

    def report(self, status: Status) -> None:
        """Sets `status`: for what manages several runtimes, and knows what this one waits for."""
        self._status = status

    def provision(self, on_status: Report | None = None) -> None:
        """Downloads and converts the model unless it is there. Errors: DownloadFailed, ConversionFailed,
        BackendUnavailable."""
        with self._loading:
            self._check_open()
            self._guarded(self._provision, on_status)

    def load(self, wait: bool = True, on_status: Report | None = None) -> None:
        """Provisions and loads the model unless that is done. With `wait` False it goes on in the background.

        Errors (with `wait`; `status` tells them otherwise): DownloadFailed, ConversionFailed, ModelDamaged,
        TokenizerError, BackendUnavailable; of a draft model that is required, UnknownModel, DraftUnusable.
        """
        if wait:
            self._load(on_status)
        else:
            threading.Thread(target=self._load_quietly, args=(on_status,), name="falcon-load", daemon=True).start()

    def generate(self, prompt: str | Sequence[int], params: SamplingParams | None = None) -> Generation:
        """Continues a text, which is text whatever control tokens it spells, or tokens, which are taken as they are,
        special ones included. What `params` leave open is as the model's `defaults` have it.

        Errors: InvalidRequest, PromptTooLong, and those of `load`.
        """
        manifest, (encoder, *_) = self._ready()
        if isinstance(prompt, str):
            tokens = encode_text(encoder, prompt, manifest.context, self._limits.prompt_characters)
        else:
            tokens = check_tokens(prompt, manifest.vocabulary, manifest.context)
        return self._start(tokens, self._over_defaults(params))

    def chat(
        self,
        messages: Sequence[Message],
        params: SamplingParams | None = None,
        whole: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        tools: Tools | None = None,
    ) -> Generation:
        """Answers the last of `messages`: `[{"role": "user", "content": "…"}, …]`. Where the last one is the
        assistant's, it is continued; the text that comes is what follows it.

        With `tools`, the answer may be calls of functions, and only such as their schemas allow: `Generation.message`
        has them, and `Generation.reader` tells them from words as they come. Their results are messages of role "tool".

        A conversation that no longer fits the context loses its oldest turns, never the system prompt or the last
        question; `Stats.dropped_messages` tells it. With `whole`, that is PromptTooLong instead. `template_variables`
        are for the model's chat template, beside the messages. What `params` leave open is as the model's `defaults`
        have it; the system prompt is the first message, if any. Errors as `generate`.
        """
        manifest, (encoder, _, known, borrowed) = self._ready()
        params = self._over_defaults(params)
        if borrowed:
            params = params.model_copy(update={"stop": (*params.stop, *borrowed.stops)})
        # A seed promises the same text again: nothing may depend on how an earlier answer was spelled.
        transcripts = known if params.seed is None else None
        prompt = encode_chat(
            encoder,
            messages,
            manifest.context,
            None if whole else params.max_new_tokens,
            transcripts,
            self._limits.prompt_characters,
            template_variables or {},
            tools.shown if tools else (),
        )
        params, calling = tools.held(params, prompt.form) if tools else (params, NO_CALLS)
        record = known.begin(prompt.text, prompt.tokens)
        return self._start(prompt.tokens, params, prompt.dropped_messages, record, calling)

    def instruct(
        self,
        instruction: str,
        context: str | None = None,
        system: str | None = None,
        params: SamplingParams | None = None,
        begun: str = "",
    ) -> Generation:
        """Follows one instruction, about `context` where it is given. `system` is the system prompt (None: the model's
        default; empty: none). An answer that has `begun` is gone on with. Errors as `generate`."""
        system = self.defaults.system if system is None else system
        messages = instruction_messages(instruction, context or "", system)
        return self.chat([*messages, {"role": "assistant", "content": begun}] if begun else messages, params)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, which is text whatever control tokens it spells."""
        return self._ready()[1].encoder(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens as it stands after other text, so that a first one keeps its space. Special tokens have
        none; bytes that are no whole character give U+FFFD. Needs no engine. Errors: those of `provision`."""
        if not self._tokenization:
            self.provision()
            self._tokenization = self._read_tokenizer(read_model(self._model.folder))
        return self._tokenization.decoder(tokens)

    def score(self, tokens: Sequence[int]) -> list[float]:
        """The model's log-probability, in nats, of each token but the first, given those before it."""
        manifest, _ = self._ready()
        if not 2 <= len(tokens) <= manifest.context:
            raise InvalidRequest(f"Scoring takes 2 to {manifest.context:,} tokens, not {len(tokens):,}.")
        check_known(tokens, manifest.vocabulary)
        steps = list(self._engine.submit(tokens, None))
        return [token.logprob for token in steps[-1].scores]

    def close(self) -> None:
        """Ends the engine; running generations end with an error. Nothing can be started afterwards."""
        self._closed = True
        if self._provisioning:
            self._provisioning.stop()
        self._engine.close()

    def _start(
        self,
        tokens: list[int],
        params: SamplingParams,
        dropped_messages: int = 0,
        record: Record | None = None,
        calling: Calling = NO_CALLS,
    ) -> Generation:
        manifest, (encoder, *_) = self._ready()
        if (highest := max(params.logit_bias, default=0)) >= manifest.vocabulary:
            raise InvalidRequest(
                f"logit_bias: the model has no token {highest:,}; its tokens are 0 to {manifest.vocabulary - 1:,}."
            )
        self._limits.check_prompt(len(tokens))
        steps = self._engine.submit(tokens, params)
        seconds = self._limits.answer_seconds
        return Generation(steps, encoder.tokenizer, tokens, params.stop, dropped_messages, record, seconds, calling)

    def _over_defaults(self, params: SamplingParams | None) -> SamplingParams:
        defaults = self.defaults.sampling
        return self._limits.over(defaults if params is None else params.over(defaults), params)

    @property
    def _facts(self) -> AnyManifest | CatalogEntry | None:
        """What tells of the model: its manifest where it is converted and whole, else the catalogue."""
        return self._manifest or self._model.manifest() or self._model.entry

    def _ready(self) -> tuple[AnyManifest, Tokenization]:
        self._load(None)
        assert self._manifest
        assert self._tokenization
        return self._manifest, self._tokenization

    def _load_quietly(self, on_status: Report | None) -> None:
        with suppress(FalconError):  # `status` tells it; the next request tries again and raises it.
            self._load(on_status)

    def _load(self, on_status: Report | None) -> None:
        with self._loading:
            self._check_open()
            if not (self._manifest and self._engine.alive):
                self._guarded(self._start_engine, on_status)

    def _guarded(self, work: Callable[[Report], None], on_status: Report | None) -> None:
        """Does `work`, which reports; its error becomes the status too."""

        def report(status: Status) -> None:
            self.report(status)
            if on_status:
                on_status(status)

        try:
            work(report)
        except FalconError as error:
            report(Status("failed", str(error)))
            raise

    def _provision(self, report: Report) -> None:
        check_backend(self._backend)
        if self._model.entry and self.needs_provisioning:
            check_convertible(self._backend, self._model.title)
            self._provisioning = Provisioning(self._model.entry, self._model.folder)
            if self._closed:
                self._provisioning.stop()
            self._provisioning.run(report)

    def _start_engine(self, report: Report) -> None:
        self._provision(report)
        manifest = read_model(self._model.folder)
        check_backend(self._backend, manifest)
        report(Status("loading", f"Loading {self._model.title}"))
        # Each takes seconds, the engine mostly in its own process.
        with ThreadPoolExecutor(1, "falcon-engine-start") as starter:
            started = starter.submit(self._engine.start, lambda: report(Status("loading", COMPILING)))
            try:
                if not self._tokenization or manifest != self._manifest:
                    self._tokenization = self._read_tokenizer(manifest)
                if self._tokenization.encoder.chat_template:
                    templates.start()
            except FalconError:
                wait([started])
                self._engine.halt()  # Nobody could use it.
                raise
            started.result()
        self._manifest = manifest
        report(Status("ready", f"{self._model.title} is ready"))

    def _read_tokenizer(self, manifest: AnyManifest) -> Tokenization:
        return tokenization_of(self._model.folder, manifest, self._chat_template)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeClosed("The runtime is closed. Make a new FalconRuntime.")
