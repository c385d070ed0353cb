r"""Cutting secrets out of events before anything is stored, logged or forwarded.

Works in two steps, so that clean events cost one scan of their bytes: `suspicious` looks for any trace of a secret in
the raw message, `redact` then walks the decoded event field by field and names what it cut, never the value.

A secret is known by its form (the published prefixes of the providers' keys, bearer and basic credentials, JSON Web
Tokens, PEM blocks, passwords in URLs) or by the name that it stands under ("client_secret": "…", `password=…`). Lengths
are kept loose, since providers have changed them before; a form begins where no letter or digit is before it, so that
`task-…` holds no `sk-…`. docs/adr/0004-redaction.md says why these are our own.

A package of its own beside the client, without any dependency: the client cuts secrets out before an event goes to the
topic, the service before it stores or tells one, both by this one table.
"""

import re
from hashlib import blake2b
from typing import Any, Final, NamedTuple

MARK: Final = "[redacted]"

_W: Final = r"[A-Za-z0-9]"
_WORD: Final = r"[A-Za-z0-9_\-]"
_RANDOM: Final = rf"(?={_WORD}{{0,80}}(?:\d|{_W}{{20}}))"
"""Somewhere in it a digit, or a run longer than words are: kebab-case names have neither, keys always have."""


class _Form(NamedTuple):
    """A form of secrets. traces: one of these is in each of them (in small letters where `lower`), found cheaply.

    A pattern with a group matches more than secrets, so that a long text is read once: it cuts where the group is.
    """

    traces: tuple[str, ...]
    pattern: re.Pattern[str]
    lower: bool = False


def _form(traces: str, pattern: str, *, anywhere: bool = False, lower: bool = False) -> _Form:
    return _Form(tuple(traces.split()), re.compile(pattern if anywhere else rf"(?<!{_W})(?:{pattern})"), lower)


_TOKEN: Final = r"[A-Za-z0-9._~+/\-]"  # noqa: S105 - the letters of RFC 6750, no token
# Under these names anything is a secret ...
_STRONG: Final = (
    r"(?:passw(?:or)?d|passphrase|secret|client[_\- ]?secret|secret[_\- ]?(?:access[_\- ]?)?key|private[_\- ]?key"
    r"|account[_\- ]?key|shared[_\- ]?access[_\- ]?key)"
)
# ... and under these what does not look like the name of something.
_WEAK: Final = (
    r"(?:api[_\- ]?key|(?:access|auth|refresh|session|bearer|id|api|security)[_\- ]?token|authorization"
    r"|credentials?|x[_\-]auth)"
)
_VALUE: Final = r"[^\s,;&\"'}\\]"
_QUOTE: Final = r"\\?[\"']"

_FORMS: Final = (
    # OpenAI, Anthropic, DeepSeek, Moonshot, OpenRouter, LiteLLM, Langfuse; Langfuse's public half
    _form("sk-", rf"sk-{_RANDOM}{_WORD}{{16,}}"),
    _form("pk-lf-", rf"pk-lf-{_WORD}{{16,}}"),
    # Stripe, ElevenLabs; Svix
    _form("sk_ rk_ pk_", rf"(?:sk|rk|pk)_(?:live_|test_)?(?={_W}{{0,80}}\d){_W}{{16,}}"),
    _form("whsec_", r"whsec_[A-Za-z0-9+/=]{16,}"),
    _form("sess-", rf"sess-{_W}{{32,}}"),  # OpenAI sessions
    _form("gsk_", rf"gsk_{_W}{{20,}}"),  # Groq
    _form("xai-", rf"xai-{_W}{{20,}}"),  # xAI
    # Google: API keys, OAuth access tokens, client secrets, refresh tokens
    _form("AIza", rf"AIza{_WORD}{{30,}}"),
    _form("AQ.", rf"AQ\.{_WORD}{{20,}}"),
    _form("ya29.", r"ya29\.[A-Za-z0-9_\-.]{20,}"),
    _form("GOCSPX-", rf"GOCSPX-{_WORD}{{20,}}"),
    _form("1//0", rf"1//0{_WORD}{{30,}}"),
    # AWS access key ids; Amazon Bedrock, long-lived and short-lived
    _form("AKIA ASIA ABIA ACCA", rf"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{{16}}(?!{_W})"),
    _form("ABSK", r"ABSK[A-Za-z0-9+/=]{40,}"),
    _form("bedrock-api-key-", r"bedrock-api-key-[A-Za-z0-9+/=]{20,}"),
    _form("JQQJ99", rf"{_W}{{20,80}}JQQJ99{_W}{{14,}}"),  # Azure: a signature inside the key
    _form("fw_ fpk_", rf"(?:fw|fpk)_{_W}{{20,}}"),  # Fireworks
    _form("pplx-", rf"pplx-{_W}{{20,}}"),  # Perplexity
    _form("hf_", rf"hf_{_W}{{20,}}"),  # Hugging Face
    _form("r8_", rf"r8_{_W}{{20,}}"),  # Replicate
    _form("nvapi-", rf"nvapi-{_WORD}{{20,}}"),  # NVIDIA
    _form("tgp_v1_", rf"tgp_v1_{_WORD}{{20,}}"),  # Together
    _form("csk-", rf"csk-{_W}{{30,}}"),  # Cerebras
    _form("pcsk_", rf"pcsk_{_WORD}{{20,}}"),  # Pinecone
    _form("pa-", rf"pa-(?={_WORD}{{0,80}}{_W}{{10}}){_RANDOM}{_WORD}{{36,}}"),  # Voyage
    _form("jina_", rf"jina_{_W}{{30,}}"),  # Jina
    _form("esecret_", rf"esecret_{_W}{{20,}}"),  # Anyscale
    _form("tvly-", rf"tvly-{_WORD}{{20,}}"),  # Tavily
    _form("lsv2_", rf"lsv2_{_WORD}{{20,}}"),  # LangSmith
    _form("dapi", r"dapi[0-9a-f]{32}"),  # Databricks
    _form("gho_ ghp_ ghr_ ghs_ ghu_ github_pat_", r"(?:gh[oprsu]|github_pat)_[A-Za-z0-9_]{20,}"),  # GitHub
    _form("glpat- gldt- glrt- glptt-", rf"gl(?:pat|dt|rt|ptt)-{_WORD}{{16,}}"),  # GitLab
    _form("xox xapp-", r"(?:xox[abeoprs]|xapp)-[A-Za-z0-9\-]{10,}"),  # Slack
    _form("SG.", rf"SG\.{_WORD}{{16,100}}\.{_WORD}{{16,}}"),  # SendGrid
    _form("SK AC", rf"(?:SK|AC)[0-9a-f]{{32}}(?!{_W})"),  # Twilio
    _form("key-", rf"key-[0-9a-f]{{32}}(?!{_W})"),  # Mailgun
    _form("npm_", rf"npm_{_W}{{30,}}"),  # npm
    _form("pypi-", rf"pypi-{_WORD}{{50,}}"),  # PyPI
    _form("dop_v1_ doo_v1_ dor_v1_", r"do[opr]_v1_[0-9a-f]{40,}"),  # DigitalOcean
    _form("hvs. hvb. hvr.", rf"hv[sbr]\.{_WORD}{{20,}}"),  # HashiCorp Vault
    _form("eyJ", rf"eyJ{_WORD}{{8,}}+((?:\.{_WORD}{{8,}}+)(?:\.{_WORD}*+){{1,3}})?"),  # JSON Web Token
    _form("-----BEGIN", r"-----BEGIN [A-Z0-9 ]+-----[\s\S]*?(?:-----END [A-Z0-9 ]+-----|\Z)", anywhere=True),  # PEM
    _form(":// :\\/\\/", r"://[^\s/:@]{0,64}:[^\s/@]{3,256}@", anywhere=True),  # a password in a URL
    # An Authorization header, but not the next word of a text ("basic authentication"): a digit, or mixed case, or
    # longer than words are.
    _form(
        "bearer basic",
        rf"(?i:bearer|basic)\s+(?={_TOKEN}{{0,80}}(?:[0-9=]|[a-z][A-Z]|[A-Za-z]{{28}})){_TOKEN}{{12,}}=*",
        lower=True,
    ),
    # name=value and name: value
    _form(
        "passw passphrase secret private account shared",
        rf"(?i:{_STRONG})(?:{_QUOTE})?\s*(?:=\s*(?:{_QUOTE})?{_VALUE}{{6,}}|:\s*{_QUOTE}{_VALUE}{{6,}}"
        rf"|:\s*(?={_VALUE}{{0,80}}\d){_VALUE}{{8,}})",
        anywhere=True,
        lower=True,
    ),
    _form(
        "api_key api-key apikey token authorization credential x-auth x_auth",
        rf"(?i:{_WEAK})(?:{_QUOTE})?\s*[=:]\s*(?:{_QUOTE})?(?={_VALUE}{{0,80}}\d){_VALUE}{{16,}}",
        anywhere=True,
        lower=True,
    ),
)
_STRONG_NAME: Final = re.compile(rf"(?i).*(?<![a-z]){_STRONG}s?", re.DOTALL)
_WEAK_NAME: Final = re.compile(rf"(?i).*(?<![a-z]){_WEAK}", re.DOTALL)
_OPAQUE: Final = re.compile(r"(?=\S{0,80}\d)\S{16,}|\S{32,}")


def _trace(trace: str) -> tuple[bytes, re.Pattern[bytes]]:
    """The trace, and where it can begin a secret: not after a letter or digit, unless that belongs to an escape."""
    return trace.encode(), re.compile(rf"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt])){re.escape(trace)}".encode())


# Of the traces those are left out that hold another one.
EXACT: Final = [
    _trace(trace)
    for form in _FORMS
    if not form.lower
    for trace in form.traces
    if trace not in {"JQQJ99", "://", ":\\/\\/", "-----BEGIN"}
]
ANYWHERE: Final = (b"JQQJ99", b"-----BEGIN", b"\\u00")
_URL: Final = re.compile(rb":\\?/\\?/[^\s\"]{0,330}@")
LOWER: Final = (
    b"bearer",
    b"basic",
    b"passw",
    b"passphrase",
    b"secret",
    b"private",
    b"account",
    b"shared",
    b"api_key",
    b"api-key",
    b"api key",
    b"apikey",
    b"authorization",
    b"credential",
    b"x-auth",
    b"x_auth",
)
_TOKEN_NAME: Final = re.compile(rb"token(?!s|_?count)")  # every event has input_tokens, promptTokenCount and the like


def suspicious(raw: bytes) -> bool:
    """Whether the bytes may hold a secret; False is certain, True means: look closer. `traces` does it for batches."""
    for trace, begins in EXACT:
        if trace in raw and begins.search(raw) is not None:
            return True
    for trace in ANYWHERE:
        if trace in raw:
            return True
    if b"@" in raw and _URL.search(raw) is not None:
        return True
    small = raw.lower()
    for word in LOWER:
        if word in small:
            return True
    return _TOKEN_NAME.search(small) is not None


def redact_text(text: str) -> tuple[str, bool]:
    """The text without secrets, and whether there were any."""
    return _cut(text, MARK)


def _cut(text: str, mark: str | None) -> tuple[str, bool]:
    """mark None: a mark for each secret that tells it from others."""
    if len(text) < 8:  # no form is shorter
        return text, False
    found = False

    def put(match: re.Match[str]) -> str:
        nonlocal found
        if match.re.groups and match[1] is None:
            return match[0]
        found = True
        return mark if mark is not None else _told_apart(match[0])

    small = text.lower()
    for form in _FORMS:
        if any(trace in (small if form.lower else text) for trace in form.traces):
            text = form.pattern.sub(put, text)
    return text, found


# Where events are told apart: two events must not become one because a secret was cut out of each.
_IDENTITY: Final = frozenset(
    {
        "id",
        "source",
        "data.upstream_id",
        "data.reservation",
        "data.request_id",
        *(f"data.{name}.{part}" for name in ("replaces", "voids") for part in ("source", "id")),
    }
)


def _told_apart(secret: str) -> str:
    return f"[redacted:{blake2b(secret.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}]"


def redact(value: Any, path: str = "") -> tuple[Any, tuple[str, ...]]:
    """The value without secrets in any string or member name, and the paths of what was cut."""
    if isinstance(value, str):
        cut, found = _cut(value, None if path in _IDENTITY else MARK)
        return (cut, (path or "event",)) if found else (value, ())
    if isinstance(value, dict):
        members: dict[str, Any] = {}
        fields: tuple[str, ...] = ()
        for name, item in value.items():
            safe, found_here = redact_text(name)
            while safe in members:
                safe += "'"  # two names that were secrets stay two members
            here = f"{path}.{safe}" if path else safe
            by_name = isinstance(item, str) and _secret_by_name(name, item)
            members[safe], inner = (MARK, (here,)) if by_name else redact(item, here)
            fields += ((here,) if found_here else ()) + inner
        return members, fields
    if isinstance(value, list):
        pairs = [redact(item, f"{path}[{i}]") for i, item in enumerate(value)]
        return [item for item, _ in pairs], tuple(field for _, fields_ in pairs for field in fields_)
    return value, ()


def _secret_by_name(name: str, value: str) -> bool:
    """Whether the value stands under a name that gives it away."""
    if len(name) > 100 or value == MARK:
        return False
    if _STRONG_NAME.fullmatch(name) is not None:
        return len(value) >= 6
    return _WEAK_NAME.fullmatch(name) is not None and _OPAQUE.search(value) is not None


_ESCAPE: Final = re.compile(r"\\u([0-9a-cA-CefEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})|\\(/)")


def redact_bytes(raw: bytes) -> tuple[bytes, bool]:
    """Bytes that are no event (broken JSON, say) without secrets, for the rejected list; escaped ones are seen too."""
    text = raw.decode("utf-8", "surrogateescape")
    plain = _ESCAPE.sub(lambda found: found[2] or chr(int(found[1], 16)), text).replace("\0", "")
    cut, found = redact_text(text)
    if plain != text:
        cut_plain, found_plain = redact_text(plain)
        if found_plain:
            cut, found = cut_plain, True
    return (cut.encode("utf-8", "surrogateescape"), True) if found else (raw, False)
