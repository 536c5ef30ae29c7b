"""The load client: sends prompts to a server and times the answers."""
