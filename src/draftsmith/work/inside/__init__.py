"""Programs for foreign interpreters: inside an engine or a trainer."""
