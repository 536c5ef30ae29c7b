"""SGLang as an engine. Its files have the names and tasks of those in `engines/vllm`. Held to recordings of 0.5.17."""
