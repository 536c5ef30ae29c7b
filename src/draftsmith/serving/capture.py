"""The recorder under the path of older versions: servers whose command line names it start as before."""

from draftsmith.recorder.middleware import CaptureMiddleware

__all__ = ["CaptureMiddleware"]
