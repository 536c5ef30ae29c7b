"""What the types of parts mean, in every dialect."""

from __future__ import annotations

from draftsmith.traffic.messages import Kind

TEXT = frozenset({"text", "input_text", "output_text", "summary_text", "reasoning_text", "plain_text", "string"})
THOUGHT = frozenset({"thinking", "reasoning", "thought", "think"})
CALL = frozenset({"tool_use", "tool_call", "tool-call", "function_call", "function", "server_tool_use", "mcp_tool_use",
                   "custom_tool_call", "mcp_call", "toolcall", "local_shell_call", "web_search_call", "file_search_call",
                   "code_interpreter_call", "computer_call", "tool-invocation", "dynamic-tool"})  # fmt: skip
RESULT = frozenset({"tool_result", "tool-result", "tool_call_response", "tool_response", "function_call_output", "mcp_tool_result",
                     "custom_tool_call_output", "local_shell_call_output", "computer_call_output", "web_search_tool_result",
                     "code_execution_tool_result", "function_response", "toolresult", "tool_call_result"})  # fmt: skip
MEDIA: dict[str, Kind] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "image-url": "image",
    "image_asset_pointer": "image",
    "audio": "audio",
    "input_audio": "audio",
    "audio_url": "audio",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
    "file": "file",
    "input_file": "file",
    "document": "file",
    "blob": "file",
    "uri": "file",
    "media": "file",
    "file_url": "file",
    "computer_screenshot": "image",
}
CONTENT_TYPES = ("mimeType", "mime_type", "mediaType", "media_type", "modality", "contentType", "content_type")
"""Where a part of a file says what it is."""
MEDIA_KEYS: dict[str, Kind] = {
    "image_url": "image",
    "input_audio": "audio",
    "audio_url": "audio",
    "video_url": "video",
    "inlineData": "file",
    "inline_data": "file",
    "fileData": "file",
    "file_data": "file",
    "image": "image",
    "video": "video",
    "document": "file",
}
"""Keys that hold a medium in parts without a type, or of a type that is not known."""
