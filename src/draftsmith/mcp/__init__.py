"""The tools of an agent, over the Model Context Protocol: what the commands do, on the same functions, with the same laws."""
