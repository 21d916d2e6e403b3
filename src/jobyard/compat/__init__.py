"""The five tools' own files, read into our words: one module a tool."""
