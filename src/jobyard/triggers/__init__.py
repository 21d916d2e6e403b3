"""Why runs start: a room for each source."""
