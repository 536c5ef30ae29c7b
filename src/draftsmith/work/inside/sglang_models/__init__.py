"""Model classes for SGLang, which finds them through SGLANG_EXTERNAL_MODEL_PACKAGE. Its interpreter needs nothing else of Draftsmith."""
