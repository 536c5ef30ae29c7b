"""The forecast job of `draftsmith plan`."""
