"""Names of providers and APIs as proxies write them, and the few distinctions that change a count."""

from functools import lru_cache
from typing import Final, NamedTuple

_PROVIDERS: Final = {
    "openai": "openai azure azure-openai azure-ai azure-ai-foundry openai-azure",
    "anthropic": "anthropic claude anthropic-claude",
    "google": "google gemini google-gemini google-genai google-ai-studio ai-studio vertex vertex-ai google-vertex "
    "google-vertex-ai vertexai vertex-ai-beta",
    "bedrock": "aws-bedrock bedrock aws amazon-bedrock amazon bedrock-converse",
    "moonshot": "moonshot moonshotai moonshot-ai kimi",
    "deepseek": "deepseek deepseek-ai",
    "mistral": "mistral mistralai mistral-ai codestral",
    "xai": "xai x-ai grok",
    "perplexity": "perplexity perplexity-ai pplx",
    "cohere": "cohere cohere-chat cohere-ai",
    "ollama": "ollama ollama-chat ollama-cloud",
    "voyage": "voyage voyageai voyage-ai jina jina-ai jinaai",
    "vercel": "vercel vercel-ai vercel-ai-gateway ai-sdk",
    # Plain OpenAI dialect; listed so that every name of the manual is known here.
    "compatible": "groq fireworks fireworks-ai together together-ai openrouter vllm hosted-vllm cerebras sambanova "
    "deepinfra databricks nvidia nvidia-nim novita hyperbolic dashscope alibaba qwen zai z-ai zhipu minimax "
    "litellm litellm-proxy lm-studio lmstudio llamacpp llama-cpp cloudflare github github-copilot huggingface "
    "baseten replicate openai-compatible openai-like",
}
_APIS: Final = {
    "chat": "chat chat-completions chat-completion chat-v1 completions completion text-completions text-completion "
    "conversations agents fim",
    "responses": "responses response openai-responses",
    "realtime": "realtime",
    "transcription": "transcription transcriptions audio-transcriptions audio-transcription translation "
    "audio-translations",
    "speech": "speech audio-speech tts text-to-speech",
    "images": "images image images-generations images-edits image-generation image-edit images-variations",
    "embeddings": "embeddings embedding embed multimodalembeddings rerank reranking contextualizedembeddings",
    "messages": "messages message messages-beta beta-messages anthropic-messages",
    "generate": "generatecontent generate-content streamgeneratecontent stream-generate-content live "
    "bidigeneratecontent batchgeneratecontent embedcontent batchembedcontents interactions predict",
    "converse": "converse converse-stream conversestream",
    "invoke": "invoke-model invokemodel invoke invoke-model-with-response-stream invokemodelwithresponsestream",
    "grpc": "grpc",
    "batch": "batch batches",
}


class Route(NamedTuple):
    """Canonical names; "" for a name that is absent or unknown (then the shape alone decides)."""

    provider: str
    api: str


def _spread(table: dict[str, str]) -> dict[str, str]:
    return {alias: name for name, aliases in table.items() for alias in aliases.split()}


_PROVIDER_OF: Final = _spread(_PROVIDERS)
_API_OF: Final = _spread(_APIS)
_NAME_LENGTH_MAX: Final = 64
_DASHES: Final = str.maketrans("._/ :", "-----")


def _plain(name: str | None) -> str:
    """Lower case with dashes: chat.completions, chat_completions and /v1/chat/completions are one name."""
    if not name or len(name) > _NAME_LENGTH_MAX:
        return ""
    return name.strip().lower().translate(_DASHES).strip("-").removeprefix("v1-").removeprefix("v1beta-")


@lru_cache(maxsize=4096)
def route(provider: str | None, api: str | None) -> Route:
    """Canonical provider and API of the names in an event."""
    name = _plain(provider)
    known = _PROVIDER_OF.get(name) or _PROVIDER_OF.get(name.split("-")[0], "")
    kind = _API_OF.get(_plain(api), "")
    if kind == "chat" and known == "cohere":
        kind = ""  # its chat has a shape of its own
    return Route(known, kind)
