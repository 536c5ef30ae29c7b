"""The application layer: what commands, scripts and notebooks call. Values in, frozen values out; never a print."""
