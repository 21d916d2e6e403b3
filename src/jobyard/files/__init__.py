"""From the text of a file to a checked Workflow, every mistake with its line."""
